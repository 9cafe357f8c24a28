"""The part `quality` of `config.yaml`: the bounds of the checks, and what the job looks at."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from fraud_core.quality.rules import QualityRules


class Quality(QualityRules):
    """The bounds of the checks, the window, and how many records of the topic are followed."""

    window: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    insufficient_windows: int = Field(default=24, ge=1)  # a check that long without a verdict alerts
    trace_records: int = Field(default=20_000, ge=1)  # the latest ones, of all partitions
