"""The section `rollout` of `config.yaml`: what a version must show before it gets any traffic."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LatencyRules(_Section):
    """How fast a version scores beside the champion in the same process.

    The bound of a call's 99th percentile is `release.judgement.max_latency_ms`.

    Attributes:
        ratio: of the median to the champion's, at most; it counts only from `ratio_from_ms` on.
    """

    ratio: float = Field(default=10.0, gt=1)
    ratio_from_ms: float = Field(default=5.0, ge=0)
    singles: int = Field(default=500, ge=50)
    batches: int = Field(default=60, ge=10)
    batch_rows: int = Field(default=500, ge=2)


class AgreementRules(_Section):
    """How many decisions on recent transactions may differ from the champion's."""

    window: timedelta = Field(default=timedelta(days=1), gt=timedelta(0))  # of event time, up to now
    rows: int = Field(default=20_000, ge=100)  # the latest of them
    max_changed: float = Field(default=0.5, gt=0, le=1)  # above it the version does another task


class ReplayRules(_Section):
    """How champion and candidate compare on labelled transactions that neither was fitted on.

    Attributes:
        history: how far back, at most.
        rows: at most; of more, every n-th is taken.
        confidence: of the intervals; the bounds are those of `release.judgement`.
    """

    history: timedelta = Field(default=timedelta(days=60), gt=timedelta(0))
    rows: int = Field(default=100_000, ge=1000)
    confidence: float = Field(default=0.99, gt=0.5, lt=1)


class Rollout(_Section):
    """What is checked by `python -m fraud_rollout validate`."""

    max_memory_mib: float = Field(default=512.0, gt=0)  # growth of resident memory when the version is loaded
    engine_tolerance: float = Field(default=1e-5, gt=0)  # between the scores of ONNX Runtime and of XGBoost
    latency: LatencyRules = LatencyRules()
    agreement: AgreementRules = AgreementRules()
    replay: ReplayRules = ReplayRules()
