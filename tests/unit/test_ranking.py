"""Figures under weights, against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core import ranking
from fraud_core.metrics import curve
from fraud_core.money import Costs, cost_by_point
from fraud_core.ranking import ranked
from tests.support.later import Later

reference = Later("sklearn.metrics")

COSTS = Costs(missed_fraud_fee=20, review=5)
# Scores from a small set, so that ties are common.
rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 12).map(lambda n: n / 12), st.integers(1, 4)),
    min_size=2,
    max_size=60,
)
both_classes = rows.filter(lambda triples: 0 < sum(label for label, _, _ in triples) < len(triples))


@given(both_classes)
def test_weighted_figures_agree_with_scikit_learn(triples: list[tuple[int, float, int]]) -> None:
    labels, scores, weights = map(np.array, zip(*triples, strict=True))
    of = ranked(labels, scores, weights=np.array([weights], dtype=np.float64))
    kept = {"sample_weight": weights}
    assert ranking.average_precision(of)[0] == pytest.approx(
        reference.average_precision_score(labels, scores, **kept)
    )
    assert ranking.roc_auc(of)[0] == pytest.approx(reference.roc_auc_score(labels, scores, **kept))
    assert ranking.log_loss(of)[0] == pytest.approx(reference.log_loss(labels, scores, **kept))
    assert ranking.brier(of)[0] == pytest.approx(reference.brier_score_loss(labels, scores, **kept))
    fpr, recall, _ = reference.roc_curve(labels, scores, drop_intermediate=False, **kept)
    assert ranking.recall_at_fpr(0.3)(of)[0] == pytest.approx(max(recall[fpr <= 0.3]))
    flagged = scores >= 0.5
    for figure, expected in (
        (ranking.f1_at, reference.f1_score(labels, flagged, zero_division=np.nan, **kept)),
        (ranking.recall_at, reference.recall_score(labels, flagged, **kept)),
        (ranking.precision_at, reference.precision_score(labels, flagged, zero_division=np.nan, **kept)),
        (ranking.fpr_at, 1 - reference.recall_score(1 - labels, ~flagged, **kept)),
    ):
        assert figure(0.5)(of)[0] == pytest.approx(expected, nan_ok=True)


@given(both_classes)
def test_a_weight_of_n_is_the_row_n_times(triples: list[tuple[int, float, int]]) -> None:
    labels, scores, weights = map(np.array, zip(*triples, strict=True))
    amounts = np.arange(1.0, len(labels) + 1)
    once = ranked(labels, scores, amounts, weights[None, :].astype(np.float64))
    repeated = ranked(*(np.repeat(column, weights) for column in (labels, scores, amounts)))
    for figure in (
        ranking.average_precision,
        ranking.precision_at_budget(0.2),
        ranking.recall_at_budget(0.2),
        ranking.amount_recall_at_budget(0.2),
        ranking.cost_at(0.4, COSTS),
        ranking.calibration_error,
        ranking.recall_at_precision(0.6),
    ):
        assert figure(once)[0] == pytest.approx(figure(repeated)[0], nan_ok=True)


def test_budgets_by_hand() -> None:
    labels = np.array([1, 0, 1, 0, 1, 0, 0, 0, 0, 0], np.int8)
    scores = np.array([0.9, 0.8, 0.7, 0.7, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0])
    amounts = np.array([10.0, 1, 100, 1, 1000, 1, 1, 1, 1, 1])
    of = ranked(labels, scores, amounts)
    assert ranking.precision_at_budget(0.2)(of)[0] == pytest.approx(1 / 2)
    # Three alerts: one is drawn from the two rows that score 0.7.
    assert ranking.precision_at_budget(0.3)(of)[0] == pytest.approx(1.5 / 3)
    assert ranking.recall_at_budget(0.3)(of)[0] == pytest.approx(1.5 / 3)
    assert ranking.amount_recall_at_budget(0.3)(of)[0] == pytest.approx((10 + 50) / 1110)
    assert ranking.amount_recall_at_budget(0.5)(of)[0] == pytest.approx(1)
    assert ranking.precision_at_budget(0.05)(of)[0] == pytest.approx(1)
    assert np.isnan(ranking.amount_recall_at_budget(0.5)(ranked(labels, scores))[0])


def test_cost_by_hand_and_at_every_operating_point() -> None:
    labels = np.array([1, 0, 1, 0], np.int8)
    scores = np.array([0.9, 0.6, 0.4, 0.4])
    amounts = np.array([100.0, 7, 30, np.nan])
    of = ranked(labels, scores, amounts)
    # Two alerts, and the fraud of 30 is missed.
    assert ranking.cost_at(0.5, COSTS)(of)[0] == pytest.approx((2 * 5 + 30 + 20) / 4)
    points = curve(labels, scores)
    by_point = cost_by_point(points, labels, scores, np.nan_to_num(amounts), COSTS)
    assert by_point == pytest.approx([ranking.cost_at(t, COSTS)(of)[0] for t in points.thresholds])
    assert ranking.cost_at(0.5, COSTS)(ranked(labels, scores))[0] == pytest.approx((2 * 5 + 20) / 4)


def test_calibration_error_by_hand() -> None:
    # 15 bins: 0.01 and 0.05 share the first one, 0.99 has another.
    of = ranked(np.array([0, 1, 1], np.int8), np.array([0.01, 0.05, 0.99]))
    assert ranking.calibration_error(of)[0] == pytest.approx((abs(1 - 0.06) + abs(1 - 0.99)) / 3)
    source = np.random.default_rng(3)
    scores = source.beta(1, 6, 200_000)
    truth = (source.random(200_000) < scores).astype(np.int8)
    assert ranking.calibration_error(ranked(truth, scores))[0] < 0.003
    assert ranking.calibration_error(ranked(truth, scores**2))[0] > 0.05


def test_the_figures_have_one_value_for_each_weighting() -> None:
    labels, scores = np.array([1, 0, 1, 0], np.int8), np.array([0.9, 0.6, 0.4, 0.3])
    of = ranked(labels, scores, weights=np.array([[1.0, 1, 1, 1], [1, 1, 0, 1]]))
    assert ranking.average_precision(of) == pytest.approx([(1 + 2 / 3) / 2, 1])


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [
        ([0, 0], [0.1, 0.2], "both classes"),
        ([0, 1], [0.1, float("nan")], "NaN"),
        ([0, 1, 1], [0.1, 0.2], "shape"),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused(labels: list[int], scores: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ranked(np.array(labels, np.int8), np.array(scores))
