"""What a replica counts of a release: nothing is lost on its way to the database, nothing counted twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pytest

from fraud_adapters.postgres.release_counts import CANARY, CONTROL
from fraud_api.releases.counts import Counts, Stage
from fraud_core.canary.evidence import SCORE_BINS, Arm
from fraud_core.predictions import Predictions

STAGE: Final = Stage(1, 10)
NOON: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def predictions(*scores: float) -> Predictions:
    return Predictions.from_scores(
        np.array(scores),
        np.zeros((len(scores), 1), dtype=np.float32),
        threshold=0.5,
        block_threshold=0.9,
        model_version="7",
        engine="onnx",
        policy_version="0",
    )


def histogram(**rows: int) -> tuple[int, ...]:
    """`bin_3=2`: two rows in the fourth bin."""
    found = [0] * SCORE_BINS
    for name, count in rows.items():
        found[int(name.removeprefix("bin_"))] = count
    return tuple(found)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counts(clock: Clock) -> Counts:
    return Counts(slow_seconds=0.2, clock=clock)


def test_calls_rows_and_scores_are_summed_by_arm(counts: Counts) -> None:
    counts.scored(STAGE, CANARY, predictions(0.0, 0.05, 0.5, 1.0), 0.2)
    counts.scored(STAGE, CANARY, predictions(0.49), 0.21)
    counts.failed(STAGE, CANARY, 3, 0.5)
    counts.scored(STAGE, CONTROL, predictions(0.999), 0.01)
    taken = {arm: sums for (_, arm, _), sums in counts.unstored().items()}
    assert taken == {
        # Just at the bound is not slow; the highest score is in the last bin.
        CANARY: Arm(3, 1, 2, 8, 2, histogram(bin_0=1, bin_1=1, bin_9=1, bin_10=1, bin_19=1)),
        CONTROL: Arm(1, 0, 0, 1, 1, histogram(bin_19=1)),
    }


def test_what_is_stored_is_not_stored_again(counts: Counts) -> None:
    counts.scored(STAGE, CANARY, predictions(0.1), 0.01)
    sums = counts.unstored()
    assert len(sums) == 1
    assert counts.unstored() == sums, "it may not have been stored"
    counts.mark_stored(sums)
    assert counts.unstored() == {}


def test_minutes_and_stages_are_counted_apart(counts: Counts, clock: Clock) -> None:
    counts.scored(STAGE, CANARY, predictions(0.1), 0.01)
    clock.now += timedelta(seconds=59.9)
    counts.scored(STAGE, CANARY, predictions(0.1), 0.01)
    clock.now += timedelta(seconds=0.2)
    counts.scored(STAGE, CANARY, predictions(0.1), 0.01)
    counts.scored(Stage(1, 50), CANARY, predictions(0.1), 0.01)
    taken = counts.unstored()
    later = NOON + timedelta(minutes=1)
    assert {(key[0].percent, key[2]): sums.calls for key, sums in taken.items()} == {
        (10, NOON): 2,
        (10, later): 1,
        (50, later): 1,
    }


def test_sums_go_on_from_what_is_stored(counts: Counts, clock: Clock) -> None:
    counts.scored(STAGE, CANARY, predictions(0.1, 0.95), 0.3)
    counts.failed(STAGE, CANARY, 5, 0.5)
    before = counts.unstored()
    counts.scored(STAGE, CANARY, predictions(0.95), 0.01)
    counts.mark_stored(before)
    (again,) = counts.unstored().values()
    assert again == Arm(3, 1, 2, 8, 2, histogram(bin_2=1, bin_19=2))
    clock.now += timedelta(minutes=1)
    counts.mark_stored({})
    assert len(counts.unstored()) == 1, "a minute that is over is kept until it is stored"
    counts.mark_stored(counts.unstored())
    counts.scored(STAGE, CANARY, predictions(0.1), 0.01)
    ((_, _, minute),) = counts.unstored()
    assert minute == NOON + timedelta(minutes=1)


def test_two_processes_never_have_one_name(clock: Clock) -> None:
    assert len({Counts(slow_seconds=0.2, clock=clock).replica for _ in range(50)}) == 50


def test_threads_that_count_while_another_stores_lose_nothing(counts: Counts, clock: Clock) -> None:
    calls = 400
    stored: dict[object, int] = {}

    def work(number: int) -> None:
        if number % 10:
            counts.scored(STAGE, CANARY, predictions(0.1, 0.9), 0.01)
            return
        sums = counts.unstored()
        for key, arm in sums.items():
            stored[key] = max(stored.get(key, 0), arm.calls)
        if number % 20:
            counts.mark_stored(sums)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(calls)))
    stored |= {key: arm.calls for key, arm in counts.unstored().items()}
    assert sum(stored.values()) == calls * 9 // 10
