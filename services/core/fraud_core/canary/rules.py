"""The part `release.judgement` of `config.yaml`: the bounds of a release, and how sure a verdict must be."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

# Checks that are made at every look and can roll back: they share `JudgementRules.false_alarm`.
SEQUENTIAL: Final = ("errors", "latency", "alert_rate", "score_distribution", "live_recall", "live_fpr")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SampleRatio(_Section):
    """Whether the arms got the shares that were planned; otherwise they cannot be compared.

    Attributes:
        false_alarm: chance that a stage whose shares are right is called wrong.
        tolerance: relative deviation of the canary's share that does not matter.
        rows_per_card: transactions that are assigned together because they are of the same card, in the
            mean over transactions; they count as one.
    """

    false_alarm: float = Field(default=0.001, gt=0, lt=0.5)
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    rows_per_card: float = Field(default=2.0, ge=1)


class JudgementRules(_Section):
    """What `fraud_core.canary.judgement.judge` judges by.

    Attributes:
        max_error_rate: of the canary's calls.
        max_latency_ms, latency_quantile: this quantile of the canary's calls may take so long.
        max_alert_rate_change: relative change of the flagged share against the control, in either direction.
        max_score_distance: distance of Kolmogorov and Smirnov between the arms' distributions of scores.
        max_recall_drop, max_fpr_rise: differences, 0.02 is two points.
        confidence: of the two-sided intervals of paired figures.
        false_alarm: chance that a stage rolls back, at any of its looks, a model that just keeps all bounds.
        false_pass: chance that a check ever passes a model that is beyond its bound (times `pass_margin`).
        pass_margin: what is counted in a stage passes if it is observed within its bound, and its interval
            lies within this many times the bound; more than 1 where there is little traffic.
        min_calls, min_rows: of the canary, before it may be promoted.
        min_frauds, min_legitimate: labelled transactions, before recall or FPR are judged.
    """

    max_error_rate: float = Field(default=0.01, gt=0, lt=1)
    max_latency_ms: float = Field(default=200.0, gt=0)
    latency_quantile: float = Field(default=0.95, ge=0.5, lt=1)
    max_alert_rate_change: float = Field(default=0.5, gt=0, lt=10)
    max_score_distance: float = Field(default=0.1, gt=0, lt=1)
    max_recall_drop: float = Field(default=0.02, gt=0, lt=1)
    max_fpr_rise: float = Field(default=0.005, gt=0, lt=1)
    confidence: float = Field(default=0.90, gt=0.5, lt=1)
    false_alarm: float = Field(default=0.02, gt=0, lt=0.5)
    false_pass: float = Field(default=0.01, gt=0, lt=0.5)
    pass_margin: float = Field(default=1.0, ge=1)
    sample_ratio: SampleRatio = SampleRatio()
    min_calls: int = Field(default=300, ge=1)
    min_rows: int = Field(default=500, ge=1)
    min_frauds: int = Field(default=100, ge=1)
    min_legitimate: int = Field(default=1000, ge=1)

    @property
    def check_false_alarm(self) -> float:
        """The chance of a false alarm that one check has in a stage."""
        return self.false_alarm / len(SEQUENTIAL)

    @property
    def max_slow_share(self) -> float:
        """Of the canary's calls that may take longer than `max_latency_ms`."""
        return round(1 - self.latency_quantile, 12)
