"""Concept drift: the champion's performance on mature labels.

A bound counts as broken only if the whole interval lies beyond it. An hourly check looks 24 times a day at
nearly the same labels, so the confidence is that of one look, chosen so that a day raises few false alarms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fraud_core.drift.features import Severity
from fraud_core.gate import GatePolicy
from fraud_core.intervals import clopper_pearson
from fraud_core.metrics import Confusion


@dataclass(frozen=True, slots=True)
class Proportion:
    """A figure as successes of trials."""

    metric: str
    successes: int
    trials: int

    @property
    def value(self) -> float | None:
        """None where it is undefined."""
        return self.successes / self.trials if self.trials else None


@dataclass(frozen=True, slots=True)
class ConceptRule:
    """When performance has drifted.

    Attributes:
        min_labels: with fewer rows below the line of a ratio (for recall: frauds) it is not judged.
        drop: of recall or precision, relative to the held-out part's, from which it is `medium`.
        confidence: of the intervals.
    """

    min_labels: int
    drop: float
    confidence: float


@dataclass(frozen=True, slots=True)
class PerformanceDrift:
    """One figure on mature labels.

    Attributes:
        trials: the rows that the figure rests on: frauds, legitimate ones, or predicted frauds.
        bound: the policy's, if it has one; `side` says which side it bounds.
        baseline: on the version's held-out part.
    """

    metric: str
    value: float | None
    low: float
    high: float
    trials: int
    side: Literal["min", "max"]
    bound: float | None
    baseline: float | None
    severity: Severity
    reason: str | None = None

    def __str__(self) -> str:
        if self.value is None or self.severity == "insufficient":
            return f"{self.metric}: {self.reason}"
        interval = f"{self.metric} {self.value:.4f} ({self.low:.4f} to {self.high:.4f}, {self.trials} labels)"
        if self.severity == "critical":
            return f"{interval}, must be {'at least' if self.side == 'min' else 'at most'} {self.bound:g}"
        return interval if self.baseline is None else f"{interval}, held-out part {self.baseline:.4f}"


def concept_bounds(policy: GatePolicy) -> dict[str, tuple[Literal["min", "max"], float]]:
    """The bounds of a gate policy that labelled predictions can break, by figure.

    Under a policy for rare frauds, which bounds neither recall nor FPR at the operating point, its own floors
    apply: the recall it asks for at a precision, and the precision it asks for at the alert budget.
    """
    bounds = {metric: (side, bound) for metric, side, bound in policy.bounds() if metric in {"recall", "fpr"}}
    if not bounds:
        if policy.min_recall_at_precision is not None:
            bounds["recall"] = ("min", policy.min_recall_at_precision.recall)
        if policy.min_precision_at_budget is not None:
            bounds["precision"] = ("min", policy.min_precision_at_budget)
    return bounds


def judge_performance(
    counts: Confusion, policy: GatePolicy, baseline: Mapping[str, float | None], rule: ConceptRule
) -> list[PerformanceDrift]:
    """Compare recall, FPR and precision with the policy's bounds and the held-out part's figures."""
    bounds = concept_bounds(policy)
    return [
        _judged(figure, bounds.get(figure.metric), baseline.get(figure.metric), rule)
        for figure in proportions(counts)
    ]


def proportions(counts: Confusion) -> Iterator[Proportion]:
    """Recall, FPR and precision."""
    yield Proportion("recall", counts.tp, counts.tp + counts.fn)
    yield Proportion("fpr", counts.fp, counts.fp + counts.tn)
    yield Proportion("precision", counts.tp, counts.tp + counts.fp)


def _judged(
    figure: Proportion,
    bound: tuple[Literal["min", "max"], float] | None,
    baseline: float | None,
    rule: ConceptRule,
) -> PerformanceDrift:
    metric, trials = figure.metric, figure.trials
    low, high = clopper_pearson(figure.successes, trials, rule.confidence)
    side: Literal["min", "max"] = "max" if metric == "fpr" else "min"
    limit = bound[1] if bound else None
    value = figure.value
    severity: Severity = "none"
    reason = None
    if trials < rule.min_labels:
        severity = "insufficient"
        reason = f"it rests on {trials} mature labels, and {rule.min_labels} are needed"
    elif limit is not None and (high < limit if side == "min" else low > limit):
        severity = "critical"
    elif _dropped(side, value, high, baseline, rule.drop):
        severity = "medium"
    return PerformanceDrift(metric, value, low, high, trials, side, limit, baseline, severity, reason)


def _dropped(side: str, value: float | None, high: float, baseline: float | None, drop: float) -> bool:
    """Whether the figure is lower by more than `drop`, and the interval excludes the baseline itself."""
    if side == "max" or value is None or not baseline:
        return False
    return value < baseline * (1 - drop) and high < baseline
