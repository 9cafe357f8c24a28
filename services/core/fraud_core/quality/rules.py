"""The bounds of the checks; the part `quality` of `config.yaml`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from fraud_core.quality.checks import Limit


class VolumeRule(BaseModel):
    """The rows of a window against the median of the same hours of earlier days.

    Attributes:
        days: how many earlier days are looked at; min_days: with fewer that have rows nothing is judged.
        warn, fail: by what factor the window may hold fewer or more rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: int = Field(default=7, ge=1, le=60)
    min_days: int = Field(default=3, ge=1)
    warn: float = Field(default=1.5, gt=1)
    fail: float = Field(default=2.0, gt=1)


class AgeLimit(BaseModel):
    """Above `warn` an age is shown, above `fail` people are alerted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warn: timedelta
    fail: timedelta

    @property
    def seconds(self) -> Limit:
        return Limit(warn=self.warn.total_seconds(), fail=self.fail.total_seconds())


class QualityRules(BaseModel):
    """When a check warns and fails; shares are of rows, and count above the reference's where it has one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_rows: int = Field(default=500, ge=1)  # with fewer rows shares and distributions are not judged
    missing: Limit = Limit(warn=0.005, fail=0.02)
    outliers: Limit = Limit(warn=0.01, fail=0.05)
    anomalies: Limit = Limit(warn=0.02, fail=0.05)
    shift_warn: float = Field(default=0.1, gt=0)  # PSI; it fails above thresholds.data_drift
    volume: VolumeRule = VolumeRule()
    freshness: AgeLimit = AgeLimit(warn=timedelta(minutes=5), fail=timedelta(minutes=15))
    duplicates: Limit = Limit(warn=0.001, fail=0.01)
    dead_letters: Limit = Limit(warn=0.001, fail=0.01)
    lag: Limit = Limit(warn=2000, fail=10_000)  # records that wait, of both topics
    ahead: timedelta = timedelta(minutes=1)  # an event may lie so far after its arrival
    late: timedelta = timedelta(hours=6)  # and so far before it
    skewed: Limit = Limit(warn=0.01, fail=0.05)
    position_age: timedelta = timedelta(minutes=5)  # records may wait so long without the position moving
    failed_tasks: Limit = Limit(warn=0.01, fail=0.1)
    slow_factor: float = Field(default=3.0, gt=1)  # a run that takes so many times as long as usual is slow
    slow_seconds: timedelta = timedelta(minutes=1)  # … and so much longer, because short runs vary more
    usual_runs: int = Field(default=5, ge=2)  # with fewer earlier runs it is not known what is usual
