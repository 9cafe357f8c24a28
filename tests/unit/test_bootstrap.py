"""Bootstrap intervals: what they cover, that they are paired, and that they are quick."""

from time import process_time

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_core import ranking
from fraud_core.bootstrap import interval, intervals, paired_difference
from fraud_core.metrics import wilson_interval


def sample(seed: int, rows: int = 2000, rate: float = 0.1) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    source = np.random.default_rng(seed)
    labels = (source.random(rows) < rate).astype(np.int8)
    return labels, 1 / (1 + np.exp(-source.normal(2.0 * labels - 2, 1)))


def test_an_interval_of_a_share_is_that_of_wilson() -> None:
    labels, scores = sample(1, rows=8000)
    found = interval(ranking.recall_at(0.5), labels, scores, resamples=2000)
    frauds = int(labels.sum())
    expected = wilson_interval(int((scores[labels == 1] >= 0.5).sum()), frauds)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.006)
    assert found.low < found.value < found.high


def test_95_of_100_intervals_hold_the_true_value() -> None:
    truth = ranking.roc_auc(ranking.ranked(*sample(0, rows=400_000)))[0]
    held = 0
    for seed in range(1, 121):
        found = interval(ranking.roc_auc, *sample(seed, rows=800), resamples=200, seed=seed)
        held += found.low <= truth <= found.high
    assert 0.88 <= held / 120 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_weights_shift_it() -> None:
    labels, scores = sample(2)
    first = interval(ranking.average_precision, labels, scores, seed=5, resamples=200)
    assert first == interval(ranking.average_precision, labels, scores, seed=5, resamples=200)
    assert first != interval(ranking.average_precision, labels, scores, seed=6, resamples=200)
    rarer = np.where(labels == 1, 1.0, 20.0)
    shifted = interval(ranking.average_precision, labels, scores, weights=rarer, seed=5, resamples=200)
    assert shifted.high < first.low


def test_a_paired_difference_is_far_narrower_than_two_intervals() -> None:
    labels, scores = sample(3)
    noise = np.random.default_rng(4).normal(0, 0.02, len(scores))
    worse = np.clip(scores + noise, 0, 1)
    difference = paired_difference(ranking.average_precision, labels, scores, worse, resamples=300)
    alone = interval(ranking.average_precision, labels, scores, resamples=300)
    assert difference.high - difference.low < (alone.high - alone.low) / 4
    equal = paired_difference(ranking.average_precision, labels, scores, scores, resamples=100)
    assert (equal.value, equal.low, equal.high) == (0, 0, 0)
    much_worse = paired_difference(ranking.average_precision, labels, scores, 1 - scores, resamples=100)
    assert much_worse.low > 0.3


def test_a_figure_that_noise_only_raises_has_a_reflected_interval() -> None:
    source = np.random.default_rng(5)
    scores = source.beta(1, 6, 3000)
    labels = (source.random(3000) < scores).astype(np.int8)
    plain = interval(ranking.calibration_error, labels, scores, resamples=300)
    reflected = interval(ranking.calibration_error, labels, scores, resamples=300, pivotal=True)
    assert plain.high > reflected.high
    assert 0 <= reflected.low <= reflected.value <= reflected.high


def test_an_undefined_figure_has_no_interval() -> None:
    labels, scores = sample(6, rows=100)
    found = intervals(
        {"amounts": ranking.amount_recall_at_budget(0.1), "precision": ranking.precision_at(2.0)},
        labels,
        scores,
        resamples=100,
    )
    assert all(np.isnan([one.value, one.low, one.high]).all() for one in found.values())


def test_a_held_out_part_takes_seconds() -> None:
    labels, scores = sample(7, rows=26_000, rate=0.05)
    begun = process_time()
    paired_difference(ranking.average_precision, labels, scores, scores**2, resamples=100)
    # A thousand resamples in ten times as long; the bound leaves room for a slow machine.
    assert process_time() - begun < 2.0
