"""Two models on the same transactions: counts, intervals and changed decisions."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_core.canary.comparison import Agreement, agreement, paired_counts, paired_difference
from fraud_core.canary.evidence import Paired
from fraud_core.decision import Decision


def test_each_transaction_is_counted_once_by_who_flags_it() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0], dtype=np.int8)
    champion = np.array([1, 1, 0, 0, 1, 1, 0, 0, 0], dtype=bool)
    candidate = np.array([1, 0, 1, 0, 1, 0, 1, 1, 0], dtype=bool)
    counts = paired_counts(labels, champion, candidate)
    assert counts == Paired(4, 1, 1, 1, 5, 1, 1, 2)


def test_without_labels_no_share_is_made_up() -> None:
    nothing = np.empty(0, dtype=bool)
    counts = paired_counts(nothing.astype(np.int8), nothing, nothing)
    assert counts == Paired(*[0] * 8)
    assert paired_difference(0, 0, 0, 0.95) is None


def test_columns_of_different_lengths_are_refused() -> None:
    labels, flags = np.zeros(2, dtype=np.int8), np.zeros(3, dtype=bool)
    with pytest.raises(ValueError, match="shape"):
        paired_counts(labels, flags, flags)
    with pytest.raises(ValueError, match="shapes"):
        agreement(labels, np.zeros(3, dtype=np.int8), None)


@pytest.mark.parametrize(
    ("first", "second", "together"), [(0.95, 0.93, 0.92), (0.6, 0.6, 0.5), (0.99, 0.99, 0.99)]
)
def test_the_interval_covers_the_true_difference_as_often_as_it_says(
    first: float, second: float, together: float
) -> None:
    rng = np.random.default_rng(5)
    trials, runs, confidence = 400, 3000, 0.95
    cells = [together, second - together, first - together, 1 - first - second + together]
    drawn = rng.multinomial(trials, cells, size=runs)
    covered = 0
    # The interval rests on these two counts alone, of which most runs draw the same ones.
    pairs, times = np.unique(drawn[:, 1:3], axis=0, return_counts=True)
    for (gained, lost), often in zip(pairs.tolist(), times.tolist(), strict=True):
        found = paired_difference(gained, lost, trials, confidence)
        assert found is not None
        covered += often * (found.low <= second - first <= found.high)
    assert covered / runs > confidence - 0.015


def test_changed_decisions_are_counted_by_direction_and_money() -> None:
    champion = np.array([0, 0, 1, 2, 2, 0], dtype=np.int8)
    candidate = np.array([0, 1, 0, 2, 0, 1], dtype=np.int8)
    amounts = np.array([1.0, 20.0, 300.0, 4.0, 5000.0, np.nan])
    found = agreement(champion, candidate, amounts)
    assert (found.rows, found.changed, found.milder, found.stricter) == (6, 4, 2, 2)
    assert (found.champion_flagged, found.candidate_flagged) == (3, 3)
    assert [(one.champion, one.candidate, one.rows, one.amount) for one in found.changes] == [
        (Decision.APPROVE, Decision.REVIEW, 2, 20.0),
        (Decision.REVIEW, Decision.APPROVE, 1, 300.0),
        (Decision.BLOCK, Decision.APPROVE, 1, 5000.0),
    ]
    assert found.share == pytest.approx(4 / 6)


def test_a_contract_without_amounts_shows_none() -> None:
    found = agreement(np.array([0], dtype=np.int8), np.array([2], dtype=np.int8), None)
    assert [one.amount for one in found.changes] == [None]
    assert agreement(np.empty(0, np.int8), np.empty(0, np.int8), None) == Agreement(0, 0, 0, 0, 0, ())
