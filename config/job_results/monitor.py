"""The results of the verbs of `fraud_monitor`."""

from __future__ import annotations

from typing import Literal, TypedDict

DriftSeverity = Literal["none", "medium", "high", "critical", "insufficient"]


class MovedFeature(TypedDict):
    """A feature of those that moved most."""

    name: str
    psi: float
    how: str  # which figure moved, in which direction, from what to what
    since: str | None  # None if it is new
    importance: float | None  # its share in the champion's decisions, None if that was not recorded


class DriftResult(TypedDict):
    """`drift`: the verdict, and what follows from it."""

    status: Literal["done"]
    dag: str
    run_id: str
    prefix: str  # where the run's files are
    champion: str | None  # its version
    severity: DriftSeverity
    data: DriftSeverity
    target: DriftSeverity
    concept: DriftSeverity
    title: str
    text: str  # what people are told
    unknown: list[str]  # what could not be judged, with the reasons
    moved: list[MovedFeature]
    rows: dict[str, int]  # by window
    step: Literal["retrain", "alert", "nothing"]
    held_back: str | None  # why no retraining is triggered although the severity asks for one
    trigger: int | None  # the row of retraining_triggers
    metrics_stored: int  # rows of drift_metrics
    estimates_compared: int  # earlier estimates whose truth is known now
    seconds: float


class SaveDriftResult(TypedDict):
    """`save-drift`: the report for people, and the figures in MLflow."""

    status: Literal["done"]
    dag: str
    run_id: str
    metrics_stored: int  # rows of drift_metrics
    report: str | None  # its key in the object store; None if there were no rows to show
    mlflow_run_id: str | None  # None if there is no champion to link it from
    seconds: float
