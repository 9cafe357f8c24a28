"""Status, liveness and readiness of the service; public."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from fraud_api.access import PUBLIC
from fraud_api.dependencies import ApiService
from fraud_api.health import Readiness
from fraud_api.openapi import problems

router = APIRouter(tags=["operations"], dependencies=[PUBLIC])


class Status(BaseModel):
    status: Literal["ok"]


class ServiceStatus(Status):
    message: str


@router.get("/", summary="The service is there")
async def get_status() -> ServiceStatus:
    return ServiceStatus(status="ok", message="The fraud scoring API is running.")


@router.get("/health/live", summary="The process answers")
async def check_liveness() -> Status:
    return Status(status="ok")


@router.get(
    "/health/ready",
    summary="Requests can be served",
    responses=problems(503),
    response_model_exclude_none=True,
)
async def check_readiness(
    backend: ApiService,
    deep: Annotated[
        Literal["0", "1", "true", "false"], Query(description="1: broker, topic and database are asked too")
    ] = "0",
) -> Readiness:
    return await backend.health.readiness(deep=deep in {"1", "true"})
