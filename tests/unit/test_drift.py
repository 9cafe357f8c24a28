"""Drift against a reference profile: what is quiet, what is loud, and what is not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fraud_core.drift.concept import ConceptRule, concept_bounds, judge_performance
from fraud_core.drift.estimate import Coverage, are_confirmed, estimate_performance
from fraud_core.drift.features import DataRule, FeatureDrift, decile_groups, judge_features
from fraud_core.drift.reference import reference_rows
from fraud_core.drift.response import ResponseRule, TriggerHistory, respond
from fraud_core.drift.statistics import (
    adjusted,
    corrected_psi,
    homogeneity_p,
    kolmogorov_smirnov,
    psi,
    smoothed,
    total_variation,
)
from fraud_core.drift.target import RateRule, judge_rate
from fraud_core.drift.verdict import Verdict, WindowDrift, conclude
from fraud_core.drift.window import WindowCounts
from fraud_core.gate import GatePolicy
from fraud_core.intervals import clopper_pearson
from fraud_core.metrics import Confusion
from fraud_core.profile import Profile, make_profile, shares_between

NAMES = ("amount", "kind", "fee", "flat", "empty")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = DataRule(
    min_rows=500,
    medium=0.3,
    high=0.5,
    drifted_psi=0.1,
    drifted_effect=0.1,
    drifted_missing=0.05,
    share=0.3,
    significance=0.001,
)
SPECIFICATION = GatePolicy(min_frauds=1000, min_recall=0.95, max_fpr=0.02, min_f1=0.85)
CONCEPT = ConceptRule(min_labels=100, drop=0.05, confidence=0.999)
RATE = RateRule(min_rows=500, change=0.5, confidence=0.999)


def rows(n: int, seed: int = 1, **moved: Any) -> NDArray[np.float32]:
    """A number, a category of three, one with missing values, a constant and one without any value."""
    source = np.random.default_rng(seed)
    columns: dict[str, NDArray[np.float64]] = {
        "amount": source.lognormal(3, 1, n),
        "kind": source.choice([0.0, 1.0, 2.0], n, p=[0.7, 0.2, 0.1]),
        "fee": np.where(source.random(n) < 0.2, np.nan, source.normal(size=n)),
        "flat": np.full(n, 4.0),
        "empty": np.full(n, np.nan),
    }
    columns |= moved
    return np.column_stack([columns[name] for name in NAMES]).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> Profile:
    source = np.random.default_rng(0)
    scores = source.beta(0.2, 3, 20_000)
    return make_profile(
        "test/1",
        NAMES,
        rows(20_000, seed=0),
        (source.random(20_000) < 0.05).astype(np.int8),
        held_out_labels=(source.random(20_000) < scores).astype(np.int8),
        held_out_scores=scores,
        threshold=0.3,
        importance=np.array([0.6, 0.2, 0.1, 0.1, 0.0]),
    )


def judged(profile: Profile, features: NDArray[np.float32], **options: Any) -> dict[str, FeatureDrift]:
    counts = WindowCounts(profile)
    for piece in np.array_split(features, 3):
        counts.add(piece)
    return {one.name: one for one in judge_features(counts, RULE, **options)}


def window(profile: Profile, features: NDArray[np.float32], ahead: int = 0) -> WindowDrift:
    counts = WindowCounts(profile)
    counts.add(features)
    rate = judge_rate("predicted_rate", round(0.1 * len(features)), len(features), 0.1, RATE)
    return WindowDrift(
        name="hour",
        start=NOW - timedelta(hours=1),
        end=NOW,
        rows=len(features),
        scored=len(features),
        ahead=ahead,
        features=tuple(judge_features(counts, RULE)),
        share_bound=RULE.share,
        score_psi=None,
        predicted_rate=rate,
        estimates=(),
        trusted=True,
    )


NO_LABELS = Confusion(0, 0, 0, 0)


def concluded(
    windows: list[WindowDrift], counts: Confusion = NO_LABELS, problem: str | None = None
) -> Verdict:
    positives = counts.tp + counts.fn
    return conclude(
        windows,
        judge_rate("fraud_rate", positives, counts.total, 0.05, RATE),
        judge_performance(counts, SPECIFICATION, {"recall": 0.97, "precision": 0.9}, CONCEPT),
        importance={"amount": 0.6, "kind": 0.2, "fee": 0.1, "flat": 0.1, "empty": 0.0},
        since={},
        problem=problem,
    )


# --- Statistics -----------------------------------------------------------------------------------


def test_psi_without_drift_is_zero_on_average_at_every_size() -> None:
    source = np.random.default_rng(3)
    shares = np.full(10, 0.1)
    for n in (50, 500, 5000):
        raw, corrected = [], []
        for _ in range(400):
            first, second = (source.multinomial(size, shares).astype(float) for size in (n, 20_000))
            raw.append(psi(smoothed(first), smoothed(second)))
            corrected.append(corrected_psi(first, second))
        floor = 9 * (1 / n + 1 / 20_000)
        assert np.mean(raw) == pytest.approx(floor, rel=0.15)
        # Negative values count as 0, so that the mean is not exactly 0.
        assert np.mean(corrected) < 0.25 * floor
    assert corrected_psi(np.array([0.0, 5]), np.array([0.0, 9])) == 0


def test_tests_agree_with_scipy() -> None:
    source = np.random.default_rng(4)
    first, second = source.multinomial(700, [0.2] * 5), source.multinomial(900, [0.3, 0.1, 0.2, 0.2, 0.2])
    expected = stats.chi2_contingency(np.array([first, second]), correction=False)
    assert homogeneity_p(first.astype(float), second.astype(float)) == pytest.approx(expected.pvalue)

    one, other = source.normal(size=800), source.normal(0.1, 1, 5000)
    edges = np.quantile(other, np.linspace(0.01, 0.99, 99)).tolist()
    distance, p_value = kolmogorov_smirnov(
        shares_between(one, edges) * len(one), shares_between(other, edges) * len(other)
    )
    exact = stats.ks_2samp(one, other, method="asymp")
    assert distance <= exact.statistic
    assert distance == pytest.approx(exact.statistic, abs=0.02)
    assert p_value >= exact.pvalue

    for x, n in ((0, 20), (19, 20), (20, 20), (930, 1000)):
        interval = stats.binomtest(x, n).proportion_ci(0.999)
        assert clopper_pearson(x, n, 0.999) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert clopper_pearson(0, 0, 0.95) == (0.0, 1.0)
    values = np.array([0.01, 0.04, 0.03, 0.9])
    assert adjusted(values) == pytest.approx(stats.false_discovery_control(values))
    assert total_variation(np.array([5.0, 5.0]), np.array([80.0, 20.0])) == pytest.approx(0.3)


# --- Features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [500, 20_000])
def test_rows_like_the_reference_are_quiet(profile: Profile, n: int) -> None:
    found = judged(profile, rows(n))
    assert {one.severity for one in found.values()} == {"none"}
    assert not any(one.drifted for one in found.values())
    assert max(one.psi or 0 for one in found.values()) < 0.05


def test_each_kind_of_change_is_loud_and_says_what_moved(profile: Profile) -> None:
    source = np.random.default_rng(9)
    n = 2000
    found = judged(
        profile,
        rows(
            n,
            amount=source.lognormal(3.8, 1, n),
            kind=source.choice([0.0, 1.0, 7.0], n, p=[0.3, 0.2, 0.5]),
            fee=np.where(source.random(n) < 0.9, np.nan, 0.0),
            flat=np.full(n, 5.0),
            empty=np.full(n, 1.0),
        ),
    )
    assert {name: one.severity for name, one in found.items()} == dict.fromkeys(NAMES, "high")
    assert " up from " in str(found["amount"].movement)
    assert str(found["kind"].movement).startswith("share of new values up from 0 to 0.")
    assert str(found["fee"].movement).startswith("share missing up from 0.1996 to 0.899")
    assert str(found["flat"].movement) == "share of 4 down from 1 to 0"
    assert str(found["empty"].movement) == "share missing down from 1 to 0"
    assert (found["amount"].measure, found["kind"].measure) == ("ks", "total_variation")


def test_an_all_nan_feature_is_drift_and_not_a_crash(profile: Profile) -> None:
    found = judged(profile, rows(600, amount=np.full(600, np.nan)))
    assert found["amount"].severity == "high"
    assert (found["amount"].missing, found["amount"].effect) == (1.0, 0.0)
    assert str(found["amount"].movement) == "share missing up from 0 to 1"


def test_significance_alone_is_not_drift(profile: Profile) -> None:
    n = 200_000
    found = judged(profile, rows(n, amount=np.random.default_rng(2).lognormal(3.05, 1, n)))["amount"]
    assert found.p_value is not None
    assert found.p_value < RULE.significance
    assert (found.drifted, found.severity) == (False, "none")


def test_an_outlier_does_not_hide_a_doubled_amount(profile: Profile) -> None:
    """With bins of equal width over the pooled range it does."""
    amounts = 2 * np.random.default_rng(5).lognormal(3, 1, 3000)
    plain = judged(profile, rows(3000, amount=amounts))["amount"].psi
    amounts[0] = 1e7
    with_outlier = judged(profile, rows(3000, amount=amounts))["amount"].psi
    assert plain == pytest.approx(with_outlier, abs=0.01)
    assert plain is not None
    assert plain > 0.3


@pytest.mark.parametrize("n", [0, 1, 7, 20, 499])
def test_a_small_window_is_insufficient(profile: Profile, n: int) -> None:
    found = judged(profile, rows(n))
    assert {one.severity for one in found.values()} == {"insufficient"}
    assert found["amount"].reason == f"{n} rows, and 500 are needed"


def test_features_that_follow_the_clock_are_left_out(profile: Profile) -> None:
    found = judged(profile, rows(600), left_out=["fee"], why="it follows the clock")
    assert (found["fee"].severity, found["fee"].reason) == ("insufficient", "it follows the clock")
    assert found["amount"].severity == "none"


def test_deciles_are_found_among_finer_quantiles(profile: Profile) -> None:
    groups = decile_groups(profile.features[0])
    assert (groups.max(), len(groups)) == (9, len(profile.features[0].levels) + 1)
    bins = np.bincount(groups, weights=np.array(profile.features[0].histogram.shares))
    assert bins == pytest.approx(np.full(10, 0.1), abs=0.001)


def test_rows_drawn_from_a_profile_have_its_distribution(profile: Profile) -> None:
    drawn = reference_rows(profile, 20_000, seed=1).astype(np.float32)
    assert max(one.psi or 0 for one in judged(profile, drawn).values()) < 0.01


# --- Target, concept, estimate ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positives", "n", "severity"),
    [
        (50, 1000, "none"),
        (65, 1000, "none"),
        (130, 1000, "medium"),
        (8, 1000, "medium"),
        (20, 499, "insufficient"),
    ],
)
def test_a_rate_must_change_by_half_with_its_whole_interval(positives: int, n: int, severity: str) -> None:
    assert judge_rate("fraud_rate", positives, n, 0.05, RATE).severity == severity


@pytest.mark.parametrize(
    ("counts", "recall", "fpr"),
    [
        (Confusion(tp=960, fn=40, fp=100, tn=19_000), "none", "none"),
        (
            Confusion(tp=945, fn=55, fp=100, tn=19_000),
            "none",
            "none",
        ),  # below the bound, but the interval is not
        (Confusion(tp=850, fn=150, fp=100, tn=19_000), "critical", "none"),
        (Confusion(tp=960, fn=40, fp=700, tn=18_400), "none", "critical"),
        (Confusion(tp=40, fn=20, fp=1, tn=18_400), "insufficient", "none"),
        (Confusion(tp=0, fn=0, fp=100, tn=18_400), "insufficient", "none"),  # one class only
        (Confusion(tp=0, fn=0, fp=0, tn=0), "insufficient", "insufficient"),
    ],
)
def test_performance_is_critical_only_with_its_whole_interval(
    counts: Confusion, recall: str, fpr: str
) -> None:
    found = judge_performance(counts, SPECIFICATION, {}, CONCEPT)
    assert {one.metric: one.severity for one in found if one.metric != "precision"} == {
        "recall": recall,
        "fpr": fpr,
    }


def test_a_drop_from_the_held_out_part_is_medium() -> None:
    lenient = GatePolicy(min_frauds=1000, min_recall=0.5)
    [recall, _, precision] = judge_performance(
        Confusion(800, 400, 9000, 200), lenient, {"recall": 0.95, "precision": 0.66}, CONCEPT
    )
    assert (recall.severity, precision.severity) == ("medium", "none")


def test_a_policy_for_rare_frauds_has_floors_of_its_own() -> None:
    policy = GatePolicy.model_validate(
        {
            "min_frauds": 100,
            "min_average_precision": 0.65,
            "min_recall_at_precision": {"precision": 0.8, "recall": 0.6},
            "min_precision_at_budget": 0.2,
        }
    )
    assert concept_bounds(policy) == {"recall": ("min", 0.6), "precision": ("min", 0.2)}
    assert concept_bounds(SPECIFICATION) == {"recall": ("min", 0.95), "fpr": ("max", 0.02)}


def test_estimates_hold_the_truth_while_scores_mean_what_they_meant(profile: Profile) -> None:
    source = np.random.default_rng(8)
    held: dict[str, list[bool]] = {"recall": [], "fpr": [], "precision": []}
    for _ in range(100):
        scores = source.beta(0.2, 3, 3000)
        labels, flagged = source.random(3000) < scores, scores >= 0.3
        counts = WindowCounts(profile)
        counts.add_scores(scores, flagged)
        for one in estimate_performance(profile, counts.scores, 0.95):
            of = {"recall": labels, "fpr": ~labels, "precision": flagged}[one.metric]
            truth = (labels if one.metric == "precision" else flagged)[of].mean()
            held[one.metric].append(one.low <= truth <= one.high)
    assert {name: np.mean(values) > 0.85 for name, values in held.items()} == dict.fromkeys(held, True)


@pytest.mark.parametrize(
    ("coverage", "confirmed"),
    [
        ({}, False),
        ({"recall": Coverage(4, 4)}, False),
        ({"recall": Coverage(5, 5)}, True),
        ({"recall": Coverage(24, 20)}, True),
        ({"recall": Coverage(24, 19)}, False),
        # A new kind of fraud: the recall is overestimated, the other figures hold.
        ({"recall": Coverage(24, 0), "fpr": Coverage(24, 24), "precision": Coverage(24, 23)}, False),
        ({"recall": Coverage(3, 0), "fpr": Coverage(24, 24)}, True),
    ],
)
def test_only_labels_confirm_estimates(coverage: dict[str, Coverage], confirmed: bool) -> None:
    """At 95 %, five or more misses in 24 have a probability of .6 %, four or more one of 3 %."""
    assert are_confirmed(coverage, 0.95) is confirmed


def test_no_rows_give_no_estimate(profile: Profile) -> None:
    assert estimate_performance(profile, WindowCounts(profile).scores, 0.95) == []


# --- The verdict and what follows --------------------------------------------------------------------


def test_no_transactions_and_no_labels_are_insufficient(profile: Profile) -> None:
    verdict = concluded([window(profile, rows(0), ahead=40)])
    assert (verdict.severity, verdict.title) == ("insufficient", "Drift: too little data to judge")
    assert (
        "inputs of the last hour (0 rows, and 500 are needed, 40 more lie ahead of the clock)" in verdict.text
    )
    assert "recall (it rests on 0 mature labels, and 100 are needed)" in verdict.text


def test_a_missing_reference_is_insufficient() -> None:
    verdict = concluded([], problem="There is no champion to compare with.")
    assert verdict.severity == "insufficient"
    assert verdict.text.startswith("Not known: There is no champion to compare with; ")


def test_stable_inputs_without_labels_are_none_and_say_what_is_not_known(profile: Profile) -> None:
    verdict = concluded([window(profile, rows(800))])
    assert (verdict.severity, verdict.concept) == ("none", "insufficient")
    assert "recall (it rests on 0 mature labels" in verdict.text


def test_the_message_names_what_moved_most_and_its_importance(profile: Profile) -> None:
    n = 1000
    verdict = concluded([window(profile, rows(n, amount=np.full(n, 500.0), kind=np.full(n, 2.0)))])
    assert (verdict.severity, verdict.data) == ("high", "high")
    assert verdict.title == "Drift of inputs (high)"
    assert {one.name for one in verdict.top[:2]} == {"amount", "kind"}
    assert "- amount: " in verdict.text
    assert "new in this run, 60% of the importance" in verdict.text
    assert "Together they carry" in verdict.text


def test_a_share_of_drifted_features_is_high_without_any_large_psi(profile: Profile) -> None:
    n = 4000
    source = np.random.default_rng(6)
    moved = rows(
        n,
        amount=source.lognormal(3.42, 1, n),
        fee=np.where(source.random(n) < 0.2, np.nan, source.normal(0.42, 1, n)),
    )
    one = window(profile, moved)
    assert {feature.severity for feature in one.features} == {"none"}
    assert one.share == pytest.approx(0.4)
    assert concluded([one]).severity == "high"


def test_broken_performance_is_critical(profile: Profile) -> None:
    verdict = concluded([window(profile, rows(800))], Confusion(850, 100, 19_000, 150))
    assert (verdict.severity, verdict.title) == ("critical", "Drift of performance (critical)")
    assert "recall 0.8500 (" in verdict.text
    assert "must be at least 0.95" in verdict.text


FREE = TriggerHistory(last_trigger=None, unfinished=False, rejected=False, new_labels=0)
RESPONSE = ResponseRule(timedelta(hours=24), 1000)


@pytest.mark.parametrize(
    ("severity", "history", "step", "held_back"),
    [
        ("critical", FREE, "retrain", None),
        ("high", FREE, "retrain", None),
        ("medium", FREE, "alert", None),
        ("none", FREE, "nothing", None),
        ("insufficient", FREE, "nothing", None),
        ("high", TriggerHistory(NOW - timedelta(hours=2), True, False, 0), "alert", "24 h must pass"),
        ("high", TriggerHistory(NOW - timedelta(hours=25), False, False, 0), "retrain", None),
        ("high", TriggerHistory(NOW + timedelta(hours=25), False, False, 0), "alert", "24 h must pass"),
        ("high", TriggerHistory(NOW - timedelta(hours=25), False, True, 999), "alert", "999 labels"),
        ("high", TriggerHistory(NOW - timedelta(hours=25), False, True, 1000), "retrain", None),
        ("medium", TriggerHistory(NOW - timedelta(hours=2), False, True, 0), "alert", None),
    ],
)
def test_what_follows(severity: Any, history: TriggerHistory, step: str, held_back: str | None) -> None:
    response = respond(severity, history, RESPONSE, NOW)
    assert response.step == step
    assert (held_back is None) is (response.held_back is None)
    assert held_back is None or held_back in str(response.held_back)
