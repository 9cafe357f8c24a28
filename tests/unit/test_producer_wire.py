"""Messages, pacing and the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from config.parameters import read_yaml
from config.settings import CONFIG_DIR, ConfigurationError
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.transaction_files import BadFile, TransactionFile
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.labels import LabelEvent, parse_label
from fraud_core.records import RecordParser
from fraud_producer import __main__ as cli
from fraud_producer.population import population
from fraud_producer.replay import Clock, Replay, Schedule
from fraud_producer.simulator import Simulator
from fraud_producer.wire import label_event, label_message, rfc3339, transaction_messages
from tests.support.kaggle_files import KAGGLE, kaggle_rows, write_csv

CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_what_is_sent_is_parsed_to_what_was_made() -> None:
    generated = Simulator(CREDITCARD, population(1, 0.05, 0.02), timedelta(hours=1)).at(
        "run", [NOON + timedelta(microseconds=n) for n in range(200)]
    )
    messages = list(transaction_messages(CREDITCARD, generated.batch))
    parsed = RecordParser(CREDITCARD).parse([m.value for m in messages], [NOON] * 200)
    assert parsed.rejected == []
    assert parsed.batch.ids == generated.batch.ids
    assert parsed.batch.event_times == generated.batch.event_times
    for name, column in generated.batch.columns.items():
        assert np.array_equal(parsed.batch.columns[name], column), name
    record = json.loads(messages[0].value)
    assert set(record) == {"transaction_id", "event_time", "time", "amount", *(f"v{n}" for n in range(1, 29))}
    assert record["event_time"] == "2026-05-04T12:00:00Z"
    assert messages[0].key == generated.batch.ids[0].encode()
    assert messages[0].headers["schema"] == b"creditcard/1"
    version, trace, span, flags = messages[0].headers["traceparent"].split(b"-")
    assert (version, len(trace), len(span), flags) == (b"00", 32, 16, b"01")
    assert messages == list(transaction_messages(CREDITCARD, generated.batch)), "a retry sends the same bytes"


def test_the_class_is_sent_only_where_asked_for() -> None:
    batch = Batch(["a"], [NOON], {f.name: np.array([1.0]) for f in CREDITCARD.fields})
    (without,) = transaction_messages(CREDITCARD, batch)
    (with_it,) = transaction_messages(CREDITCARD, batch, with_class=True)
    assert "class" not in json.loads(without.value)
    assert json.loads(with_it.value)["class"] == 1


def test_another_contract_is_keyed_by_its_card() -> None:
    columns = {
        "sent_amount": np.array([5.0]),
        "hour": np.array([7.0]),
        "channel": np.array(["web"], dtype=object),
        "urgent": np.array([1.0]),
        "fee": np.array([np.nan]),
        "payer": np.array(["card-1"], dtype=object),
        "payee": np.array(["shop"], dtype=object),
    }
    (message,) = transaction_messages(WIRE, Batch(["a"], [NOON], columns))
    record = json.loads(message.value)
    assert message.key == b"card-1"
    assert message.headers["schema"] == b"wire/3"
    assert record["hour"] == 7
    assert record["urgent"] is True
    assert "fee" not in record
    parsed = RecordParser(WIRE).parse([message.value], [NOON])
    assert parsed.batch.columns["payer"].tolist() == ["card-1"]


def test_a_label_is_the_same_each_time_it_is_sent() -> None:
    event = label_event("tx-1", 1, NOON)
    parsed = parse_label(label_message(event).value, NOON + timedelta(days=1))
    assert parsed == event
    assert isinstance(parsed, LabelEvent)
    assert label_event("tx-1", 1, NOON) == event
    assert label_event("tx-1", 0, NOON).label_id != event.label_id
    fields = set(json.loads(label_message(event).value))
    assert fields == {"label_id", "transaction_id", "label", "source", "reported_at"}


def test_times_are_rfc3339_in_utc() -> None:
    assert rfc3339(NOON + timedelta(microseconds=7)) == "2026-05-04T12:00:00.000007Z"


@dataclass
class Recorder:
    """A sink and a clock that only moves when it is waited for."""

    now: float = 100.0
    sent: list[tuple[float, dict[str, object]]] = field(default_factory=list)
    flushed: int = 0

    def send(self, topic: str, key: bytes, value: bytes, headers: dict[str, bytes] | None = None) -> None:
        self.sent.append((self.now, json.loads(value)))

    def flush(self) -> None:
        self.flushed = len(self.sent)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def replayed(path: Path, schedule: Schedule, limit: int | None = None, with_class: bool = False) -> Recorder:
    recorder = Recorder()
    clock = Clock(lambda: recorder.now, recorder.sleep)
    Replay(
        file=TransactionFile.open(path, CREDITCARD),
        schedule=schedule,
        sink=recorder,
        topic="t",
        clock=clock,
        progress=lambda sent: None,
        limit=limit,
        with_class=with_class,
    ).run()
    return recorder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = kaggle_rows(5)
    for row in rows:
        row[0] = 1000 + row[0] * 60  # a minute apart
    return write_csv(tmp_path / "x.csv", KAGGLE, rows)


def event_times(recorder: Recorder) -> Sequence[object]:
    return [record["event_time"] for _, record in recorder.sent]


def test_a_replay_keeps_the_pace_times_its_speed(file: Path) -> None:
    recorder = replayed(file, Schedule(NOON, 10.0, placed=False))
    assert [round(at - 100, 6) for at, _ in recorder.sent] == [0, 6, 12, 18, 24]
    assert event_times(recorder)[:2] == ["2026-05-04T12:00:00Z", "2026-05-04T12:00:06Z"]
    assert [record["time"] for _, record in recorder.sent] == [1000, 1060, 1120, 1180, 1240]
    assert recorder.flushed == 5


def test_speed_zero_does_not_wait(file: Path) -> None:
    recorder = replayed(file, Schedule(NOON, 0.0, placed=False))
    assert {at for at, _ in recorder.sent} == {100.0}
    assert set(event_times(recorder)) == {"2026-05-04T12:00:00Z"}


def test_a_start_places_the_file_at_its_own_pace(file: Path) -> None:
    recorder = replayed(file, Schedule(NOON, 0.0, placed=True))
    assert event_times(recorder)[4] == "2026-05-04T12:04:00Z"


def test_a_limit_and_the_class(file: Path) -> None:
    assert len(replayed(file, Schedule(NOON, 0.0, placed=False), limit=2).sent) == 2
    with_class = replayed(file, Schedule(NOON, 0.0, placed=False), with_class=True)
    assert [record["class"] for _, record in with_class.sent] == [0, 1, 0, 1, 0]


def test_a_class_that_is_not_there_cannot_be_sent(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", KAGGLE[:-1], [row[:-1] for row in kaggle_rows(2)])
    with pytest.raises(BadFile, match="--with-class"):
        replayed(path, Schedule(NOON, 0.0, placed=False), with_class=True)


class TestCommandLine:
    def test_optimum_needs_no_server(self) -> None:
        figures = cli.main(["optimum", "--overlap", "0.115", "--drift", "amount-scale=0.5"])
        assert not figures["reachable"]
        assert figures["overlap"] == 0.115

    @pytest.mark.parametrize("verb", [["generate"], ["backfill"], ["optimum"]])
    def test_another_contract_cannot_be_simulated(
        self, verb: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRAUD_CONTRACT", "wire")
        with pytest.raises(ConfigurationError, match="FRAUD_CONTRACT is wire"):
            cli.main(verb)

    @pytest.mark.parametrize("options", [["--drift", "new-pattern=2"], ["--drift", "fraud-rate=30"]])
    def test_impossible_options_are_one_sentence(self, options: list[str]) -> None:
        with pytest.raises(JobFailed, match="The simulator cannot do this"):
            cli.main(["optimum", *options])

    @pytest.mark.parametrize(
        "arguments",
        [
            ["generate", "--count", "0"],
            ["generate", "--at", "2026-01-01"],
            ["replay"],
            ["replay", "--file", "x", "--speed", "-1"],
            [],
        ],
    )
    def test_wrong_arguments_show_the_usage(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        assert "usage:" in capsys.readouterr().err

    def test_a_missing_file_is_one_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            cli.main(["replay", "--file", "gone.csv"])
        assert "argument --file: must be a file that exists, not 'gone.csv'" in capsys.readouterr().err
