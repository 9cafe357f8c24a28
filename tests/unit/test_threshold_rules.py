"""Thresholds by F1, by cost and by a budget of alerts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_core.gate import GatePolicy
from fraud_core.metrics import confusion, curve
from fraud_core.money import Costs, cost_by_point
from fraud_trainer.train.thresholds import ThresholdRule, choose_thresholds

FREE = GatePolicy(min_frauds=1, min_average_precision=0.5)
COSTS = Costs(missed_fraud_fee=10, review=5)


def rows(seed: int = 1) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.float64]]:
    """Labels, scores and amounts; frauds are worth more."""
    source = np.random.default_rng(seed)
    labels = (source.random(20_000) < 0.02).astype(np.int8)
    scores = 1 / (1 + np.exp(-source.normal(3.0 * labels - 3, 1)))
    return labels, scores, source.lognormal(3 + labels, 1)


def test_the_cheapest_threshold_is_chosen_and_more_review_cost_means_fewer_alerts() -> None:
    labels, scores, amounts = rows()
    points = curve(labels, scores)
    alerts = []
    for review in (1, 5, 50):
        costs = Costs(missed_fraud_fee=10, review=review)
        chosen = choose_thresholds(labels, scores, FREE, 0.98, ThresholdRule("cost", amounts, costs))
        by_point = cost_by_point(points, labels, scores, amounts, costs)
        reached = cost_by_point(points, labels, scores, amounts, costs)[
            np.flatnonzero(points.thresholds >= chosen.threshold)[-1]
        ]
        assert reached == by_point.min()
        assert f"an alert {review}" in chosen.rule
        alerts.append(int((scores >= chosen.threshold).sum()))
    assert alerts[0] > alerts[1] > alerts[2]


def test_without_amounts_a_missed_fraud_costs_its_fee() -> None:
    labels, scores, _ = rows()
    chosen = choose_thresholds(labels, scores, FREE, 0.98, ThresholdRule("cost", None, COSTS))
    assert "a missed fraud costs 10, an alert 5" in chosen.rule


def test_a_budget_of_alerts_is_used_up_and_kept() -> None:
    labels, scores, _ = rows()
    chosen = choose_thresholds(labels, scores, FREE, 0.98, ThresholdRule("budget", budget=0.01))
    assert int((scores >= chosen.threshold).sum()) == 200
    assert "as many alerts as the budget of 1.000% of all transactions allows" in chosen.rule


def test_a_budget_that_no_point_keeps_gives_the_strictest_one() -> None:
    scores = np.repeat([0.9, 0.1], 50)
    labels = np.repeat([1, 0], 50).astype(np.int8)
    chosen = choose_thresholds(labels, scores, FREE, 0.98, ThresholdRule("budget", budget=0.01))
    assert "strictest point, since even its alerts exceed" in chosen.rule
    assert int((scores >= chosen.threshold).sum()) == 50


def test_costs_do_not_break_the_bounds_of_the_gate() -> None:
    labels, scores, amounts = rows()
    policy = GatePolicy(min_frauds=1, min_recall=0.8, max_fpr=0.1)
    dear = Costs(missed_fraud_fee=0, review=500)
    free = choose_thresholds(labels, scores, FREE, 0.98, ThresholdRule("cost", amounts, dear))
    assert (confusion(labels, scores >= free.threshold).recall or 0) < 0.8
    bound = choose_thresholds(labels, scores, policy, 0.98, ThresholdRule("cost", amounts, dear))
    assert (confusion(labels, scores >= bound.threshold).recall or 0) >= 0.8
    assert "lowest expected cost" in bound.rule
    assert "where the 95 % intervals keep recall >= 0.8 and FPR <= 0.1" in bound.rule


def test_the_present_rule_stays_the_default() -> None:
    labels, scores, _ = rows()
    assert choose_thresholds(labels, scores, FREE, 0.98) == choose_thresholds(
        labels, scores, FREE, 0.98, ThresholdRule("f1")
    )
    assert choose_thresholds(labels, scores, FREE, 0.98).threshold == pytest.approx(
        curve(labels, scores).thresholds[int(np.argmax(curve(labels, scores).f1))], abs=0.01
    )
