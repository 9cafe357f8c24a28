"""When a new model is trained: the rule alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core.gate import GatePolicy
from fraud_core.metrics import Confusion
from fraud_core.retraining import RetrainingEvidence, RetrainingRule, decide

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
RULE = RetrainingRule(timedelta(hours=48), 10_000, 1000)
POLICY = GatePolicy(min_frauds=1, min_recall=0.95, max_fpr=0.02, min_f1=0.85)
GOOD = Confusion(tp=990, fp=50, tn=9950, fn=10)
DUE = RetrainingEvidence(
    now=NOW,
    champion="3",
    last_training=NOW - timedelta(hours=48),
    new_labels=10_000,
    performance=Confusion(0, 0, 0, 0),
)


def evidence(**changes: Any) -> RetrainingEvidence:
    return replace(DUE, **changes)


def test_a_training_is_due_where_nothing_speaks_against_it() -> None:
    decision = decide(RULE, POLICY, DUE)
    assert (decision.retrain, decision.against, decision.overrides) == (True, (), ())
    assert decision.sentence() == (
        "Retrain: the last training finished 48 h ago; 10000 new transactions have a known label; "
        "0 predictions of the champion have a mature label, too few to judge it by (needed 1000)."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"last_training": NOW - timedelta(hours=47, minutes=30)},
            "Do not retrain: the last training finished 47.5 h ago, less than 48 h.",
        ),
        (
            {"new_labels": 9999},
            "Do not retrain: 9999 new transactions have a known label, fewer than 10000.",
        ),
        (
            {"performance": GOOD},
            "Do not retrain: the champion's performance is acceptable: recall 0.9900 (0.9817 to 0.9946), "
            "must be at least 0.95; fpr 0.0050 (0.0038 to 0.0066), must be at most 0.02.",
        ),
    ],
)
def test_each_reason_against_a_training_is_enough(changes: dict[str, Any], sentence: str) -> None:
    decision = decide(RULE, POLICY, evidence(**changes))
    assert (decision.retrain, decision.sentence()) == (False, sentence)
    assert len(decision.against) == 1
    assert len(decision.in_favour) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"forced": True}, "Retrain: it was asked for."),
        ({"champion": None}, "Retrain: there is no champion."),
        (
            {"triggers": ("drift, high: PSI 0.7.", "person, high: new fraud")},
            "Retrain: open trigger: drift, high: PSI 0.7; open trigger: person, high: new fraud.",
        ),
    ],
)
def test_each_override_outweighs_all_three(changes: dict[str, Any], sentence: str) -> None:
    against = evidence(last_training=NOW, new_labels=0, performance=GOOD)
    assert len(decide(RULE, POLICY, against).against) == 3
    decision = decide(RULE, POLICY, replace(against, **changes))
    assert (decision.retrain, decision.sentence()) == (True, sentence)
    assert len(decision.against) == 3, "what speaks against it is recorded all the same"


@pytest.mark.parametrize(
    ("counts", "verdicts"),
    [
        (GOOD, ["met", "met"]),
        (Confusion(tp=960, fp=50, tn=9950, fn=40), ["unclear", "met"]),  # 0.96, but 0.946 is possible
        (Confusion(tp=900, fp=50, tn=9950, fn=100), ["missed", "met"]),
        (Confusion(tp=990, fp=190, tn=9810, fn=10), ["met", "unclear"]),
        (Confusion(tp=990, fp=400, tn=9600, fn=10), ["met", "missed"]),
        (Confusion(tp=0, fp=5, tn=9995, fn=0), ["unclear", "met"]),  # no fraud is known
    ],
)
def test_performance_is_acceptable_where_the_whole_interval_keeps_every_bound(
    counts: Confusion, verdicts: list[str]
) -> None:
    decision = decide(RULE, POLICY, evidence(performance=counts))
    assert [check.verdict for check in decision.checks] == verdicts
    assert decision.retrain is (verdicts != ["met", "met"])


def test_too_few_labels_do_not_count_as_acceptable() -> None:
    few = Confusion(tp=500, fp=0, tn=499, fn=0)
    assert decide(RULE, POLICY, evidence(performance=few)).retrain
    assert not decide(replace(RULE, min_labels=999), POLICY, evidence(performance=few)).retrain


def test_a_policy_without_these_bounds_does_not_judge_the_champion() -> None:
    decision = decide(RULE, GatePolicy(min_frauds=1, min_average_precision=0.6), evidence(performance=GOOD))
    assert decision.retrain
    assert "bounds neither recall nor FPR" in decision.sentence()


def test_without_an_earlier_training_only_labels_and_performance_count() -> None:
    assert decide(RULE, POLICY, evidence(last_training=None)).retrain
    assert not decide(RULE, POLICY, evidence(last_training=None, new_labels=5)).retrain


def test_a_training_in_the_future_counts_as_just_finished() -> None:
    ahead = decide(RULE, POLICY, evidence(last_training=NOW + timedelta(days=900)))
    assert ahead.against == ("the last training finished 0 h ago, less than 48 h",)


counts = st.integers(0, 3000)


@given(
    champion=st.sampled_from(["3", None]),
    hours=st.one_of(st.none(), st.integers(0, 100)),
    new_labels=st.integers(0, 20_000),
    performance=st.builds(Confusion, counts, counts, counts, counts),
    forced=st.booleans(),
    triggers=st.lists(st.just("drift"), max_size=2),
)
def test_it_trains_if_and_only_if_overridden_or_nothing_speaks_against_it(
    *,
    champion: str | None,
    hours: int | None,
    new_labels: int,
    performance: Confusion,
    forced: bool,
    triggers: list[str],
) -> None:
    last = None if hours is None else NOW - timedelta(hours=hours)
    found = RetrainingEvidence(NOW, champion, last, new_labels, performance, forced, triggers)
    decision = decide(RULE, POLICY, found)
    overridden = forced or bool(triggers) or champion is None
    assert decision.retrain is (overridden or not decision.against)
    assert bool(decision.overrides) is overridden
    assert len(decision.against) + len(decision.in_favour) == 3
    assert "\n" not in decision.sentence()
    if not overridden:
        # More labels, or more time, never turn a training down.
        more = replace(found, new_labels=new_labels + 1, last_training=last and last - timedelta(hours=1))
        assert decide(RULE, POLICY, more).retrain >= decision.retrain
