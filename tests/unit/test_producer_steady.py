"""`generate --every`: when runs are made, which, and what happens after a failure."""

from collections.abc import Callable

import pytest

from config.job_results.producer import GenerateResult
from fraud_adapters.kafka import BrokerUnavailable
from fraud_producer.__main__ import main
from fraud_producer.steady import generate

RESULT: GenerateResult = {
    "run_id": "r1",
    "topic": "the-transactions",
    "event_time": "2026-01-01T00:00:00+00:00",
    "transactions": 50,
    "frauds": 3,
    "labels_sent": 3,
    "drift": [],
    "optimum": {
        "population": "p1",
        "fraud_rate": 0.02,
        "overlap": 0.01,
        "recall": 0.99,
        "fpr": 0.001,
        "precision": 0.97,
        "f1": 0.98,
        "roc_auc": 0.999,
        "average_precision": 0.99,
        "threshold": 3.0,
        "bounds": {"recall": 0.95},
        "reachable": True,
        "sample": 300_000,
    },
}


class Time:
    """A clock that only waiting and working move; the end comes after so many waits."""

    def __init__(self, waits: int) -> None:
        self.now = 0.0
        self.waited: list[float] = []
        self._waits = waits

    def __call__(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return len(self.waited) >= self._waits

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        self.now += timeout
        return self.is_set()


def working(time: Time, seconds: list[float], ids: list[str]) -> Callable[[str], GenerateResult]:
    """Runs that take so long, one after the other; a negative number is a run that fails at once."""

    def once(run_id: str) -> GenerateResult:
        took = seconds[len(ids)]
        ids.append(run_id)
        if took < 0:
            raise BrokerUnavailable("Kafka is away.")
        time.now += took
        return RESULT

    return once


def test_runs_keep_their_pace_and_are_all_different() -> None:
    time, ids = Time(4), list[str]()
    result = generate(working(time, [1, 2, 1, 1], ids), 5, time, time)
    assert time.waited == [4, 3, 4, 4]
    assert len(set(ids)) == 4
    assert result == {"runs": 4, "transactions": 200, "labels_sent": 12, "failures": 0}


def test_what_a_slow_run_missed_is_not_made_up_for() -> None:
    time, ids = Time(3), list[str]()
    generate(working(time, [23, 1, 1], ids), 5, time, time)
    assert time.waited == [0, 4, 4]


def test_a_failed_run_is_repeated_after_longer_and_longer_pauses() -> None:
    time, ids = Time(9), list[str]()
    result = generate(working(time, [1, *[-1] * 6, 1, 1], ids), 5, time, time)
    assert time.waited == [4, 5, 10, 20, 40, 60, 60, 4, 4]
    assert len(set(ids[1:8])) == 1
    assert len(set(ids)) == 3
    assert (result["runs"], result["failures"]) == (3, 6)


def test_a_pace_slower_than_the_longest_pause_is_kept() -> None:
    time, ids = Time(2), list[str]()
    generate(working(time, [-1, -1], ids), 90, time, time)
    assert time.waited == [90, 90]


def test_what_does_not_go_together_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--run-id", "x"], ["--at", "2026-01-01T00:00:00Z"]):
        with pytest.raises(SystemExit, match="2"):
            main(["generate", "--every", "5s", *more])
    for span in ("5", "s", "5h", "0s", "-1s", "nans"):
        with pytest.raises(SystemExit, match="2"):
            main(["generate", f"--every={span}"])
    assert "5s or 2m" in capsys.readouterr().err
