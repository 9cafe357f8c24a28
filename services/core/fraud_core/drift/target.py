"""Target drift: the share of frauds, or without labels of predicted frauds, against the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fraud_core.drift.features import Severity
from fraud_core.intervals import clopper_pearson


@dataclass(frozen=True, slots=True)
class RateRule:
    """When a rate has drifted.

    Attributes:
        min_rows: with fewer rows a rate is not judged.
        change: relative to the reference; the whole interval must lie beyond it.
        confidence: of the interval.
    """

    min_rows: int
    change: float
    confidence: float


@dataclass(frozen=True, slots=True)
class RateDrift:
    """One rate: of `fraud_rate` (mature labels) or `predicted_rate`."""

    metric: Literal["fraud_rate", "predicted_rate"]
    value: float | None
    low: float
    high: float
    reference: float
    rows: int
    severity: Severity
    reason: str | None = None

    def __str__(self) -> str:
        name = self.metric.replace("_", " ")
        if self.value is None or self.reason is not None:
            return f"{name}: {self.reason}"
        return f"{name} {self.value:.4f} ({self.low:.4f} to {self.high:.4f}) instead of {self.reference:.4f}"


def judge_rate(
    metric: Literal["fraud_rate", "predicted_rate"],
    positives: int,
    rows: int,
    reference: float,
    rule: RateRule,
    *,
    unknown: str | None = None,
) -> RateDrift:
    """Compare a rate with the reference's.

    Args:
        unknown: why the rate is not representative, in words, if it is not.
    """
    low, high = clopper_pearson(positives, rows, rule.confidence)
    value = positives / rows if rows else None
    reason = unknown
    if reason is None and rows < rule.min_rows:
        reason = f"{rows} rows, and {rule.min_rows} are needed"
    if reason is not None:
        return RateDrift(metric, value, low, high, reference, rows, "insufficient", reason)
    beyond = low > reference * (1 + rule.change) or high < reference * (1 - rule.change)
    return RateDrift(metric, value, low, high, reference, rows, "medium" if beyond else "none")
