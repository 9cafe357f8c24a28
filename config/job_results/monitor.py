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


class QualityCheckResult(TypedDict):
    """A check of data quality."""

    name: str
    status: Literal["passed", "warned", "failed", "insufficient"]
    severity: Literal["medium", "high"]  # if it fails
    sentence: str
    value: float | None
    bound: float | None
    rows: int | None  # that the value rests on


class QualityResult(TypedDict):
    """`quality`: the outcome of each check, and the alert they come to."""

    status: Literal["done"]
    dag: str
    run_id: str
    window_from: str
    window_to: str
    checks: list[QualityCheckResult]
    counts: dict[str, int]  # of the checks, by status
    severity: Literal["none", "medium", "high"]
    title: str  # of the alert
    text: str
    seconds: float


class FigureResult(TypedDict):
    """A ratio with its 95 % interval."""

    value: float | None
    low: float
    high: float
    rows: int


class PerformanceResult(TypedDict):
    """`performance`: the champion's figures on mature labels, and the alert they come to."""

    status: Literal["done"]
    dag: str
    run_id: str
    champion: str | None  # its version
    window_from: str
    window_to: str
    labels: int
    frauds: int
    left_out_blocked: int  # blocked, without an explicit label
    figures: dict[str, FigureResult]  # by number of transactions
    money: dict[str, FigureResult]  # by amount
    latency_ms: dict[str, float | None]  # p50, p95, p99 of all predictions of the last hour
    throughput: float  # predictions a second, then
    severity: Literal["none", "medium", "critical", "insufficient"]
    title: str  # of the alert
    text: str
    report: str | None  # key of the HTML report in the bucket of runs
    mlflow_run_id: str | None
    problems: list[str]  # what could not be read or written, a sentence each
    seconds: float


class ReplayMismatch(TypedDict):
    """A stored prediction whose recorded model gives another score now."""

    transaction_id: str
    model_version: str
    engine: str
    stored_score: float
    replayed_score: float


class NotReplayedGroup(TypedDict):
    """Predictions of one version and engine that could not be made again."""

    model_version: str
    engine: str
    predictions: int
    reason: str


class ReplayCheckResult(TypedDict):
    """`replay`: whether a sample of stored predictions gets the identical scores again."""

    status: Literal["done"]
    dag: str
    run_id: str
    sample: int  # that was asked for
    compared: int
    mismatches: int
    mismatched: list[ReplayMismatch]  # at most 20 of them
    not_replayed: list[NotReplayedGroup]
    severity: Literal["none", "critical", "insufficient"]
    title: str  # of the alert
    text: str
    seconds: float
