"""Quality gates: a named policy, and its verdict on a model's metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_core.metrics import wilson_interval


class RecallAtPrecision(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: float = Field(gt=0, le=1)
    recall: float = Field(gt=0, le=1)

    @property
    def metric(self) -> str:
        return f"recall_at_precision_{self.precision:g}"


class NotWorseThanChampion(BaseModel):
    """The whole interval of the paired difference to the champion must lie above minus the tolerance.

    That is the test for non-inferiority: a model that may be worse by more than the tolerance does not pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Literal[
        "average_precision", "roc_auc", "precision_at_budget", "recall_at_budget", "amount_recall_at_budget"
    ]
    tolerance: float = Field(ge=0, lt=1)

    @property
    def bounded(self) -> str:
        """The figure that is bounded: the lower end of the difference's interval."""
        return f"{self.metric}_over_champion_low"


class GatePolicy(BaseModel):
    """Bounds that a model must keep on the held-out part; only those that are set are checked.

    `min_frauds` belongs to the bounds: so many frauds the held-out part must have for its figures to be known
    well enough to be held against them. It has no default, so that no policy lowers it by leaving it out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_frauds: int = Field(ge=1)
    min_recall: float | None = Field(default=None, gt=0, le=1)
    max_fpr: float | None = Field(default=None, ge=0, lt=1)
    min_f1: float | None = Field(default=None, gt=0, le=1)
    min_average_precision: float | None = Field(default=None, gt=0, le=1)
    min_recall_at_precision: RecallAtPrecision | None = None
    min_precision_at_budget: float | None = Field(default=None, gt=0, le=1)
    not_worse_than_champion: NotWorseThanChampion | None = None

    @model_validator(mode="after")
    def _checks_something(self) -> GatePolicy:
        # A comparison alone would let any first model pass.
        if all(metric == self._compared for metric, _, _ in self.bounds()):
            raise ValueError("a gate policy must set at least one bound")
        return self

    def bounds(self) -> Iterator[tuple[str, Literal["min", "max"], float]]:
        """Each check: the metric's name, which side is bounded, and the bound."""
        if self.min_recall is not None:
            yield "recall", "min", self.min_recall
        if self.max_fpr is not None:
            yield "fpr", "max", self.max_fpr
        if self.min_f1 is not None:
            yield "f1", "min", self.min_f1
        if self.min_average_precision is not None:
            yield "average_precision", "min", self.min_average_precision
        if self.min_recall_at_precision is not None:
            yield self.min_recall_at_precision.metric, "min", self.min_recall_at_precision.recall
        if self.min_precision_at_budget is not None:
            yield "precision_at_budget", "min", self.min_precision_at_budget
        if self.not_worse_than_champion is not None:
            yield self.not_worse_than_champion.bounded, "min", -self.not_worse_than_champion.tolerance

    def accuracy(self) -> str | None:
        """How well `min_frauds` frauds tell the recall that is bounded; None if none is.

        The 95 % interval (Wilson 1927) if exactly the bound is found.
        """
        recall = self.min_recall
        if recall is None and self.min_recall_at_precision is not None:
            recall = self.min_recall_at_precision.recall
        if recall is None:
            return None
        low, high = wilson_interval(round(recall * self.min_frauds), self.min_frauds)
        return f"a recall of {recall:g} found on {self.min_frauds} frauds lies within {low:.3f} to {high:.3f}"

    @property
    def _compared(self) -> str | None:
        return self.not_worse_than_champion.bounded if self.not_worse_than_champion else None

    def waives(self, metric: str, no_champion: str | None) -> bool:
        """Whether the check of a metric passes because there is no champion to compare with."""
        return no_champion is not None and metric == self._compared


@dataclass(frozen=True, slots=True)
class GateCheck:
    """The check of one metric; `margin` is the distance to the bound, negative if the bound is missed.

    `note` is the reason why a check passed without a value.
    """

    metric: str
    side: Literal["min", "max"]
    bound: float
    value: float | None
    passed: bool
    margin: float | None
    note: str | None = None

    def __str__(self) -> str:
        if self.note is not None:
            return f"{self.metric}: {self.note}"
        relation = "at least" if self.side == "min" else "at most"
        if self.value is None or self.margin is None:
            return f"{self.metric} is undefined, must be {relation} {self.bound:g}"
        missed = "" if self.passed else f", missed by {-self.margin:.4f}"
        return f"{self.metric} {self.value:.4f}, must be {relation} {self.bound:g}{missed}"


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """The verdict of a policy: passed only if every check passed and there were enough frauds."""

    policy: str
    passed: bool
    checks: tuple[GateCheck, ...]
    frauds: int
    frauds_needed: int
    accuracy: str | None = None  # of the figures with so many frauds

    @property
    def sufficient(self) -> bool:
        return self.frauds >= self.frauds_needed

    def sentence(self) -> str:
        """What failed and by how much, or that all passed."""
        if not self.sufficient:
            missing = self.frauds_needed - self.frauds
            reason = f" ({self.accuracy}, 95 %)" if self.accuracy else ""
            return (
                f"Gate {self.policy}: insufficient: the held-out part has {self.frauds} frauds, "
                f"{missing} fewer than the {self.frauds_needed} needed{reason}."
            )
        if self.passed:
            return f"Gate {self.policy} passed: {'; '.join(map(str, self.checks))}."
        failed = "; ".join(str(check) for check in self.checks if not check.passed)
        return f"Gate {self.policy} failed: {failed}."

    def to_mapping(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "checks": [asdict(check) for check in self.checks],
            "sufficient": self.sufficient,
        }


def evaluate(
    name: str,
    policy: GatePolicy,
    metrics: Mapping[str, float | None],
    *,
    frauds: int,
    no_champion: str | None = None,
) -> GateOutcome:
    """Evaluate a policy on metrics. A metric that is missing or undefined fails its check.

    Args:
        name: the policy's name in the configuration.
        metrics: figures on the held-out part, by the names `policy.bounds()` gives.
        frauds: frauds in the held-out part; with fewer than `policy.min_frauds` the gate does not pass.
        no_champion: why there is no champion to compare with, if there is none: the comparison then passes.
    """
    checks = tuple(
        GateCheck(metric, side, bound, None, True, None, no_champion)
        if policy.waives(metric, no_champion)
        else _check(metric, side, bound, metrics.get(metric))
        for metric, side, bound in policy.bounds()
    )
    passed = frauds >= policy.min_frauds and all(check.passed for check in checks)
    return GateOutcome(name, passed, checks, frauds, policy.min_frauds, policy.accuracy())


def _check(metric: str, side: Literal["min", "max"], bound: float, value: float | None) -> GateCheck:
    if value is None or isnan(value):
        return GateCheck(metric, side, bound, None, False, None)
    margin = value - bound if side == "min" else bound - value
    return GateCheck(metric, side, bound, value, margin >= 0, margin)
