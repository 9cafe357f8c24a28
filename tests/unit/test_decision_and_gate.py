import re
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import PlatformSettings, parameters
from fraud_core.decision import Decision, decide, is_fraud
from fraud_core.gate import GatePolicy, evaluate
from fraud_core.identifiers import transaction_id, uuid7
from fraud_core.manifest import Calibration

shares = st.floats(0, 1)
SPECIFICATION = parameters(PlatformSettings()).gates["specification"]
RARE = parameters(PlatformSettings()).gates["low_prevalence"]


@given(st.lists(shares, min_size=1), shares, shares)
def test_a_decision_never_contradicts_the_model(scores: list[float], one: float, other: float) -> None:
    threshold, block = sorted((one, other))
    values = np.array(scores)
    for score, decision, fraud in zip(
        scores, decide(values, threshold, block), is_fraud(values, threshold), strict=True
    ):
        assert (decision is Decision.APPROVE) == (not fraud)
        assert (decision is Decision.BLOCK) == (score >= block)


def test_scores_are_compared_unrounded() -> None:
    just_below = np.nextafter(0.5, 0)
    assert decide(np.array([just_below, 0.5]), 0.5, 0.9) == [Decision.APPROVE, Decision.REVIEW]


def test_flags_are_the_specified_words() -> None:
    assert [decision.flag for decision in Decision] == ["LEGITIMATE", "REVIEW", "FRAUD"]


def test_impossible_thresholds_and_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="below threshold"):
        decide(np.array([0.5]), 0.5, 0.4)
    with pytest.raises(ValueError, match="NaN"):
        decide(np.array([np.nan]), 0.5, 0.6)


def test_the_specification_gate_has_the_specified_bounds() -> None:
    assert list(SPECIFICATION.bounds()) == [
        ("recall", "min", 0.95),
        ("fpr", "max", 0.02),
        ("f1", "min", 0.85),
    ]


@pytest.mark.parametrize(
    ("figures", "passed"),
    [
        ({"recall": 0.95, "fpr": 0.02, "f1": 0.85}, True),
        ({"recall": 0.9499, "fpr": 0.02, "f1": 0.85}, False),
        ({"recall": 0.95, "fpr": 0.0201, "f1": 0.85}, False),
        ({"recall": 0.95, "fpr": 0.02, "f1": 0.8499}, False),
        ({"recall": None, "fpr": 0.0, "f1": 1.0}, False),
        ({"recall": float("nan"), "fpr": 0.0, "f1": 1.0}, False),
        ({"fpr": 0.0, "f1": 1.0}, False),
    ],
)
def test_a_gate_passes_only_on_figures_that_are_there(figures: dict[str, float | None], passed: bool) -> None:
    outcome = evaluate("specification", SPECIFICATION, figures, frauds=1000)
    assert outcome.passed is passed
    assert ("failed" in outcome.sentence()) is not passed


def test_too_few_frauds_decide_nothing() -> None:
    outcome = evaluate("specification", SPECIFICATION, {"recall": 1.0, "fpr": 0.0, "f1": 1.0}, frauds=999)
    assert not outcome.passed
    assert outcome.sentence() == (
        "Gate specification: insufficient: the held-out part has 999 frauds, 1 fewer than the 1000 needed "
        "(a recall of 0.95 found on 1000 frauds lies within 0.935 to 0.962, 95 %)."
    )


def test_a_policy_for_rare_frauds_needs_as_many_as_such_an_installation_has() -> None:
    metrics = {"average_precision": 0.8, "recall_at_precision_0.8": 0.75, "precision_at_budget": 0.3}
    waived = {"no_champion": "there is none"}
    enough = evaluate("low_prevalence", RARE, metrics, frauds=100, **waived)
    assert (enough.passed, enough.frauds_needed) == (True, 100)
    few = evaluate("low_prevalence", RARE, metrics, frauds=99, **waived)
    assert (few.passed, "99 frauds, 1 fewer than the 100 needed" in few.sentence()) == (False, True)
    assert "a recall of 0.6 found on 100 frauds lies within 0.502 to 0.691" in few.sentence()


def test_a_failed_gate_says_by_how_much() -> None:
    outcome = evaluate("specification", SPECIFICATION, {"recall": 0.9, "fpr": 0.0, "f1": 0.9}, frauds=1000)
    assert "recall 0.9000, must be at least 0.95, missed by 0.0500" in outcome.sentence()


def test_a_policy_without_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one bound"):
        GatePolicy(min_frauds=1)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_holds_time_version_and_variant(milliseconds: int, noise: bytes) -> None:
    value = UUID(uuid7(milliseconds, noise))
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"
    assert value.int >> 80 == milliseconds


def test_a_retried_run_makes_the_same_ids() -> None:
    first = [transaction_id(7, "run", index) for index in range(100)]
    assert first == [transaction_id(7, "run", index) for index in range(100)]
    assert len({*first, *(transaction_id(8, "run", index) for index in range(100))}) == 200
    assert all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in first)


def test_calibration_is_the_same_at_every_batch_size() -> None:
    margins = np.random.default_rng(3).normal(0, 6, 5000).astype(np.float32)
    calibration = Calibration(slope=1.37, intercept=-0.21)
    whole = calibration.scores(margins)
    for size in (1, 2, 3, 7, 100, 501):
        parts = [calibration.scores(margins[start : start + size]) for start in range(0, 5000, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
