"""The served model."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from config.constants import ALIAS_CHAMPION
from fraud_api.access import Reader
from fraud_api.dependencies import ApiService
from fraud_api.model_holder import Serving

router = APIRouter(prefix="/models", tags=["models"])


class Gate(BaseModel):
    """The result of the gate the version had to pass; `outcome` is as the training job recorded it."""

    policy: str
    passed: bool
    outcome: dict[str, Any]


class Engines(BaseModel):
    """The engines for one transaction and for many, with their versions."""

    single: str
    batch: str


class ServedModel(BaseModel):
    name: str
    alias: str
    version: str
    digest: str
    contract: str
    threshold: float
    block_threshold: float
    gate: Gate
    metrics: dict[str, Any]
    engines: Engines


class ModelList(BaseModel):
    models: list[ServedModel]


@router.get("", summary="The model that serves")
async def list_models(_: Reader, backend: ApiService) -> ModelList:
    """The champion that serves: version, thresholds, digest and gate. Empty while there is none."""
    serving = backend.holder.current
    return ModelList(models=[_served(backend.registered_model, serving)] if serving else [])


def _served(name: str, serving: Serving) -> ServedModel:
    manifest, record = serving.model.manifest, serving.record
    return ServedModel(
        name=name,
        alias=ALIAS_CHAMPION,
        version=serving.version,
        digest=record.digest,
        contract=record.contract,
        threshold=manifest.threshold,
        block_threshold=manifest.block_threshold,
        gate=Gate(policy=record.gate_policy, passed=record.gate_passed, outcome=record.gate_outcome),
        metrics=record.metrics,
        engines=Engines(single=serving.model.engine_single, batch=serving.model.engine_batch),
    )
