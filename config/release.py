"""The part `release` of `config.yaml`: how a model version gets its traffic, and what it is judged by."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_core.canary.rules import JudgementRules


def require_growth(canary_percent: int, widened_percent: int) -> None:
    """Raise ValueError unless the second share is larger."""
    if widened_percent <= canary_percent:
        raise ValueError("widened_percent must be more than canary_percent")


class HttpRelease(BaseModel):
    """What is different where the gateway splits the traffic.

    Attributes:
        window: of each of the three stages: shadow, first and second share.
        settling: after a change of the weights, until each replica's requests are those of the new ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    canary_percent: int = Field(default=10, ge=1, le=99)
    widened_percent: int = Field(default=50, ge=1, le=99)
    window: timedelta = Field(default=timedelta(minutes=10), gt=timedelta(0))
    settling: timedelta = Field(default=timedelta(seconds=6), ge=timedelta(0))

    @model_validator(mode="after")
    def _grows(self) -> HttpRelease:
        require_growth(self.canary_percent, self.widened_percent)
        return self


class Release(BaseModel):
    """A release by canary.

    Attributes:
        canary_percent, widened_percent: of the traffic, in the first and in the second stage.
        window: of each stage; a verdict to promote counts at its end, one to roll back at once.
        max_extensions: how often an inconclusive stage is extended by another window before the canary is
            withdrawn.
        answer_limit: a canary's call that takes longer is answered by the champion.
        validation_limit: of the checks before any traffic.
        abandoned_after: a release that is so much behind its time is withdrawn: nobody drives it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    canary_percent: int = Field(default=10, ge=1, le=99)
    widened_percent: int = Field(default=50, ge=1, le=99)
    window: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0))
    max_extensions: int = Field(default=2, ge=0, le=100)
    answer_limit: timedelta = Field(default=timedelta(milliseconds=500), gt=timedelta(0))
    validation_limit: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    abandoned_after: timedelta = Field(default=timedelta(minutes=10), gt=timedelta(0))
    judgement: JudgementRules = JudgementRules()
    http: HttpRelease = HttpRelease()

    @model_validator(mode="after")
    def _grows(self) -> Release:
        require_growth(self.canary_percent, self.widened_percent)
        return self
