"""Starts a training, and says how it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from config.constants import BUCKET_RUNS
from fraud_adapters.airflow_runs import DagRun
from fraud_api.access import Trainer
from fraud_api.dependencies import ApiService
from fraud_api.openapi import problems
from fraud_core.moments import parse_moment

router = APIRouter(prefix="/train", tags=["training"])


def _moment(value: Any) -> datetime | None:
    return None if value is None else parse_moment(value)


Moment = Annotated[datetime | None, BeforeValidator(_moment)]


def _record(value: Any) -> str | None:
    """An offset or a time, as the DAG takes it."""
    if value is None or (type(value) is int and value >= 0):
        return None if value is None else str(value)
    return parse_moment(value).isoformat()


Record = Annotated[
    str | None,
    BeforeValidator(_record),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "date-time"}]}),
]


class TrainingRequest(BaseModel):
    """What to train on; every member may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    force: bool = Field(default=False, description="train also if the rules say that no new model is needed")
    as_of: Moment = Field(default=None, description="labels as they were known then; now by default")
    data_from: Moment = Field(default=None, description="leave out transactions before this time")
    data_to: Moment = Field(default=None, description="leave out transactions from this time on")
    file: str | None = Field(
        default=None,
        pattern=rf"^s3://{BUCKET_RUNS}/.+\.(csv|parquet)$",
        max_length=1024,
        description="a file with labels to train on instead of the stored transactions",
    )
    file_start: Moment = Field(
        default=None, description="when the file's first transaction happened, if it has no event_time"
    )
    kafka_from: Record = Field(default=None, description="read the topic from this record on")
    kafka_to: Record = Field(default=None, description="read the topic up to before this record")


class Training(BaseModel):
    run_id: str
    state: Literal["queued", "running", "success", "failed"]
    started_at: datetime | None
    ended_at: datetime | None
    link: str = Field(description="where to ask how it stands")


class TrainingStatus(Training):
    """`retrain`, `reason` and `outcome` are null until the run has decided, and has ended."""

    retrain: bool | None = Field(description="whether the run trains a model")
    reason: str | None = Field(description="why, in one sentence")
    outcome: str | None = Field(description="the version that was registered, or why there is none")


@router.post("", status_code=202, summary="Start a training", responses=problems(400, 409, 503))
def start_training(
    _: Trainer, backend: ApiService, response: Response, request: TrainingRequest | None = None
) -> Training:
    """A run of the DAG `01_training_pipeline`, which first decides whether a new model is needed."""
    conf = (request or TrainingRequest()).model_dump(mode="json", exclude_none=True)
    run = backend.trainings.start(conf)
    response.headers["Location"] = _link(run)
    return Training(**_described(run))


@router.get("/{run_id}", summary="How a training stands", responses=problems(404, 503))
def get_training(
    _: Trainer,
    backend: ApiService,
    run_id: Annotated[str, Path(max_length=250, pattern=r"^[A-Za-z0-9_.~:+-]+$")],
) -> TrainingStatus:
    training = backend.trainings.get(run_id)
    decision = training.decision
    return TrainingStatus(
        **_described(training.run),
        retrain=decision.retrain if decision else None,
        reason=decision.reason if decision else None,
        outcome=decision.outcome if decision else None,
    )


def _described(run: DagRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "state": run.state,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "link": _link(run),
    }


def _link(run: DagRun) -> str:
    return f"/train/{quote(run.run_id, safe='')}"
