"""The part `audit` of `config.yaml`: how cases are opened and worked on, and how people log in."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_core.cases import CaseRules
from fraud_core.people import LockoutRules


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceLevels(_Section):
    """The time in which a case is to be decided, counted from the model's decision."""

    block: timedelta = Field(default=timedelta(hours=4), gt=timedelta(0))
    review: timedelta = Field(default=timedelta(hours=24), gt=timedelta(0))
    sampled: timedelta = Field(default=timedelta(days=7), gt=timedelta(0))


class Opening(_Section):
    """Which decisions become cases.

    Attributes:
        sampling_share: of the approved transactions, drawn at random.
        max_age: older decisions do not become cases.
        settle: a prediction may become visible so long after its number was assigned.
        batch: how many cases one search opens at most.
        every_seconds: how often the web app searches.
    """

    sampling_share: float = Field(default=0.001, ge=0, le=1)
    due: ServiceLevels = ServiceLevels()
    max_age: timedelta = Field(default=timedelta(days=30), gt=timedelta(0))
    settle: timedelta = Field(default=timedelta(minutes=1), gt=timedelta(0))
    batch: int = Field(default=1000, ge=1, le=100_000)
    every_seconds: float = Field(default=1.0, gt=0, le=60)


class WebSessions(_Section):
    """How long people stay logged in: without a request, and at most."""

    idle: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    longest: timedelta = Field(default=timedelta(hours=12), gt=timedelta(0))

    @model_validator(mode="after")
    def _in_order(self) -> WebSessions:
        if self.longest < self.idle:
            raise ValueError("longest must be at least idle")
        return self


class AuditApp(_Section):
    """The analysts' web app."""

    opening: Opening = Opening()
    cases: CaseRules = CaseRules()
    sessions: WebSessions = WebSessions()
    login: LockoutRules = LockoutRules()
