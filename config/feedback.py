"""The parts `feedback` and `retention` of `config.yaml`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

_DAY = timedelta(days=1)


class Feedback(BaseModel):
    """How reports of people and banks are collected, and what is measured of them.

    Attributes:
        window: the decisions of this time up to now are measured.
        confidence: of the intervals.
        dispute_due: a dispute is to be decided so long after it began.
        batch: at most so many transactions, cases or rows in one database transaction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: timedelta = Field(default=timedelta(days=30), gt=timedelta(0), le=timedelta(days=3660))
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    dispute_due: timedelta = Field(default=timedelta(days=2), gt=timedelta(0))
    batch: int = Field(default=5000, ge=1, le=10_000)


class Retention(BaseModel):
    """How long things are kept; housekeeping removes what is older. Ledgers are kept for ever.

    Attributes:
        dead_letters: after they were stored, whether or not they were put back.
        run_files: of ended runs that no model version needs, after the run's last step.
        sessions: of the web app, after they have expired.
        collected_reports: which run has collected a report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dead_letters: timedelta = Field(default=timedelta(days=90), ge=_DAY)
    run_files: timedelta = Field(default=timedelta(days=7), ge=timedelta(hours=1))
    sessions: timedelta = Field(default=timedelta(days=7), ge=timedelta(0))
    collected_reports: timedelta = Field(default=timedelta(days=90), ge=_DAY)
