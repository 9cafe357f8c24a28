"""The part `performance` of `config.yaml`: what is judged, and from how many labels on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class Floors(BaseModel):
    """Below them a model is not fit for service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recall: Share
    precision: Share


class PerformanceRules(BaseModel):
    """What the verb `performance` judges.

    Attributes:
        window: transactions of this period are judged; it ends `labels.implied_after` ago, when the truth
            about all of them is known.
        min_labels, min_frauds: with fewer of them nothing is decided.
        service_window: the period of latency, throughput and the distribution of scores; it ends now.
        amount_bands: where one band of amounts ends and the next begins, in the contract's unit.
        floors: by gate policy, where its floors are others than `thresholds`.
        trend_days: of the report's trend.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: timedelta = Field(default=timedelta(days=7), gt=timedelta(0))
    min_labels: int = Field(default=1000, ge=1)
    min_frauds: int = Field(default=50, ge=1)
    service_window: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    amount_bands: tuple[Annotated[float, Field(gt=0)], ...] = (10.0, 50.0, 200.0, 1000.0)
    floors: dict[str, Floors] = Field(default_factory=dict)
    trend_days: int = Field(default=7, ge=1, le=365)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.amount_bands) != sorted(set(self.amount_bands)):
            raise ValueError("amount_bands must rise")
        return self
