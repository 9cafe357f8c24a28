"""The verb `metrics`: how much is known of the decisions, how well people agree, and what was missed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.job_results.feedback import FeedbackFigureResult, MetricsResult
from fraud_adapters.postgres import feedback_figures
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.feedback_figures import (
    Agreement,
    Decided,
    Disputes,
    KnownDecisions,
    Window,
)
from fraud_adapters.postgres.feedback_metrics import FeedbackFigure, store_figures
from fraud_core.feedback.estimates import Estimate, Reviewed, Traffic, missed_frauds, recall_on_all_traffic
from fraud_core.intervals import clopper_pearson
from fraud_feedback.arguments import Verb
from fraud_feedback.run_context import RunContext


@dataclass(frozen=True, slots=True)
class Measured:
    """What the database says of a window."""

    known: KnownDecisions
    reviewed: Sequence[Reviewed]
    agreement: Agreement
    decided: Sequence[Decided]
    disputes: Disputes


def metrics(context: RunContext, _options: argparse.Namespace) -> MetricsResult:
    """Measure the window that ends now, and store each figure; repeated, the run's figures are replaced.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    started, feedback = monotonic(), context.parameters.feedback
    with closing(context.database()) as connection:
        now = database_clock(connection)
        window = Window(context.contract.schema_id, now - feedback.window, now)
        measured = _measured(connection, window)
        figures = list(figures_of(measured, feedback.confidence, now))
        with connection, connection.cursor() as cursor:
            store_figures(cursor, window.contract, context.run_id, figures, (window.start, window.end))
    return {
        "status": "done",
        "dag": context.dag,
        "run_id": context.run_id,
        "window_from": window.start.isoformat(),
        "window_to": window.end.isoformat(),
        "confidence": feedback.confidence,
        "decisions": measured.known.flagged + measured.known.approved,
        "figures": [_figure_result(one) for one in figures],
        "text": sentence(figures, feedback.confidence),
        "seconds": round(monotonic() - started, 3),
    }


def _measured(connection: Connection, window: Window) -> Measured:
    known = feedback_figures.known_decisions(connection, window)
    reviewed = feedback_figures.reviewed_sample(connection, window)
    agreement = feedback_figures.agreement(connection, window)
    disputes = feedback_figures.open_disputes(connection)
    decided = feedback_figures.decided_cases(connection, window)
    return Measured(known, reviewed, agreement, decided, disputes)


def figures_of(measured: Measured, confidence: float, now: datetime) -> Iterator[FeedbackFigure]:
    """The figures of a window, by metric and part."""
    known = measured.known
    decisions, reported = known.flagged + known.approved, known.flagged_reported + known.approved_reported
    for part, count, total in (
        ("", reported, decisions),
        ("flagged", known.flagged_reported, known.flagged),
        ("approved", known.approved_reported, known.approved),
        ("sampled", len(measured.reviewed), known.sampled),
    ):
        yield FeedbackFigure("label_coverage", count / total if total else None, part, rows=total)
    yield _proportion("agreement", "", measured.agreement.agreed, measured.agreement.transactions, confidence)
    for one in measured.decided:
        yield _proportion("review_precision", one.origin, one.frauds, one.cases, confidence)
        hours = {"ninth_decile": one.ninth_decile.total_seconds() / 3600}
        median = one.median.total_seconds() / 3600
        yield FeedbackFigure("hours_to_label", median, one.origin, rows=one.cases, details=hours)
    traffic = Traffic(known.approved, known.flagged_frauds, known.reported_frauds, measured.reviewed)
    details = {
        "approved": known.approved,
        "flagged": known.flagged,
        "flagged_known": known.flagged_known,
        "flagged_frauds": known.flagged_frauds,
        "reported_frauds": known.reported_frauds,
        "sampled": known.sampled,
        "reviewed": len(measured.reviewed),
        "reviewed_missed": sum(one.missed for one in measured.reviewed),
    }
    yield _estimated("missed_frauds", missed_frauds(traffic, confidence), details)
    yield _estimated("recall_all_traffic", recall_on_all_traffic(traffic, confidence), details)
    oldest = measured.disputes.oldest
    age = {} if oldest is None else {"oldest_hours": round((now - oldest).total_seconds() / 3600, 2)}
    yield FeedbackFigure("disputes_open", float(measured.disputes.open), details=age)


def sentence(figures: Sequence[FeedbackFigure], confidence: float) -> str:
    """What the sample says, in one sentence."""
    [recall] = [one for one in figures if one.metric == "recall_all_traffic"]
    sampled, reviewed = recall.details["sampled"], recall.details["reviewed"]
    if recall.value is None:
        return (
            f"Recall on all traffic is not known: {reviewed} of {sampled} sampled transactions are reviewed."
        )
    return (
        f"Recall on all traffic is {recall.value:.3f}"
        f" ({recall.low:.3f} to {recall.high:.3f}, {confidence:.0%}),"
        f" from {reviewed} reviewed of {sampled} sampled transactions."
    )


def _proportion(metric: str, part: str, count: int, total: int, confidence: float) -> FeedbackFigure:
    if not total:
        return FeedbackFigure(metric, None, part, rows=0)
    low, high = clopper_pearson(count, total, confidence)
    return FeedbackFigure(metric, count / total, part, low, high, total)


def _estimated(metric: str, estimate: Estimate, details: dict[str, int]) -> FeedbackFigure:
    return FeedbackFigure(
        metric, estimate.value, "", estimate.low, estimate.high, estimate.rows, details=details
    )


def _figure_result(figure: FeedbackFigure) -> FeedbackFigureResult:
    return {
        "metric": figure.metric,
        "part": figure.part,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "rows": figure.rows,
    }


VERBS: Final = (
    Verb("metrics", "measure coverage, agreement, and recall on all traffic by the random sample", metrics),
)
