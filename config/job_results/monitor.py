"""The results of the verbs of `fraud_monitor`."""

from __future__ import annotations

from typing import Literal, TypedDict


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
