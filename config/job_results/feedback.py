"""The results of the verbs of `fraud_feedback`."""

from __future__ import annotations

from typing import Literal, TypedDict


class QueueResult(TypedDict):
    """The cases of one origin that are not closed."""

    open: int
    assigned: int
    breached: int  # past the time at which they were due
    oldest_hours: float


class PendingResult(TypedDict):
    """`pending`: what was opened and returned, and what waits."""

    status: Literal["done"]
    dag: str
    run_id: str
    opened: int  # from flagged decisions and the random sample
    disputed: int  # opened, or opened again, because labels contradict each other
    settled: int  # closed, because the labels agree again
    returned: int  # were taken and left behind
    pending: dict[str, QueueResult]  # by origin
    breached: int
    reports_waiting: int  # that no run has collected


class SourceResult(TypedDict):
    """What one source has reported."""

    reports: int
    frauds: int


class CollectResult(TypedDict):
    """`collect`: what was reported since the last run; the same again when the run is repeated."""

    status: Literal["done"]
    dag: str
    run_id: str
    since: str | None  # when the last run collected
    reports: int
    transactions: int
    people: int  # who reported by name
    sources: dict[str, SourceResult]


class ApplyResult(TypedDict):
    """`apply`: the truth that follows from what the run has collected."""

    status: Literal["done"]
    dag: str
    run_id: str
    transactions: int  # about which the run has collected reports
    classes_changed: int  # by all tries of the run; the writers of labels change most of them at once
    classes_refreshed: int  # because time has passed
    cases_opened: int  # of disputes
    cases_settled: int
    disputes_open: int
    seconds: float


class FeedbackFigureResult(TypedDict):
    """A figure; low and high are the interval, where there is one."""

    metric: str
    part: str  # empty for the whole
    value: float | None
    low: float | None
    high: float | None
    rows: int | None


class MetricsResult(TypedDict):
    """`metrics`: how much is known, how well people agree, and what was missed."""

    status: Literal["done"]
    dag: str
    run_id: str
    window_from: str
    window_to: str
    confidence: float
    decisions: int
    figures: list[FeedbackFigureResult]
    text: str  # one sentence
    seconds: float


class ImportResult(TypedDict):
    """`import-chargebacks`: how many reports are new."""

    status: Literal["done"]
    run_id: str
    lines: int
    imported: int
    known: int  # imported before, or more than once in the file
    frauds: int  # of those imported


class HousekeepingResult(TypedDict):
    """`housekeeping`: the rows that were removed, by kind."""

    status: Literal["done"]
    dag: str
    run_id: str
    removed: dict[str, int]
    seconds: float
