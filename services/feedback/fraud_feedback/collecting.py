"""The verbs `collect` and `apply`: what people and banks have reported, and the truth that follows."""

from __future__ import annotations

import argparse
from contextlib import closing
from time import monotonic
from typing import Final

from config.job_results.feedback import ApplyResult, CollectResult
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import case_queue, feedback_runs
from fraud_adapters.postgres.feedback_figures import open_disputes
from fraud_adapters.postgres.labels import apply_labels, refresh_classes
from fraud_feedback.arguments import Verb
from fraud_feedback.batches import until_none_left
from fraud_feedback.run_context import RunContext

COLLECT: Final = "collect"


def collect(context: RunContext, _options: argparse.Namespace) -> CollectResult:
    """Assign to this run what has been reported since the last one; repeated, it says the same again.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    feedback = context.parameters.feedback
    with closing(context.database()) as connection:
        with connection, connection.cursor() as cursor:
            collected = feedback_runs.collect(cursor, context.run_id)
        disputed = until_none_left(
            connection,
            lambda cursor: case_queue.open_disputed(cursor, feedback.dispute_due, feedback.batch),
            feedback.batch,
        )
    get_logger(__name__).info("reports_collected", reports=collected["reports"], disputed=disputed)
    return {
        "status": "done",
        "dag": context.dag,
        "run_id": context.run_id,
        "since": collected["since"],
        "reports": collected["reports"],
        "transactions": collected["transactions"],
        "people": collected["people"],
        "sources": collected["sources"],
    }


def apply(context: RunContext, _options: argparse.Namespace) -> ApplyResult:
    """Bring the classes of what the run has collected up to date, then those that only time changes.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
        LastingFailure: the run has collected nothing yet.
    """
    started, feedback = monotonic(), context.parameters.feedback
    changed = 0
    with closing(context.database()) as connection:
        with connection, connection.cursor() as cursor:
            if not feedback_runs.is_collected(cursor, context.run_id):
                raise LastingFailure(
                    f"The run {context.run_id} has not collected yet: run {COLLECT} with this run id first."
                )
            ids = feedback_runs.reported_transactions(cursor, context.run_id)
        for start in range(0, len(ids), feedback.batch):
            batch = ids[start : start + feedback.batch]
            with connection, connection.cursor() as cursor:
                changed = feedback_runs.note_applied(
                    cursor, context.run_id, apply_labels(cursor, batch), finished=False
                )
        refreshed = _refresh(context)
        settled = until_none_left(
            connection, lambda cursor: case_queue.close_settled(cursor, feedback.batch), feedback.batch
        )
        opened = until_none_left(
            connection,
            lambda cursor: case_queue.open_disputed(cursor, feedback.dispute_due, feedback.batch),
            feedback.batch,
        )
        with connection, connection.cursor() as cursor:
            changed = feedback_runs.note_applied(cursor, context.run_id, 0, finished=True)
        disputes = open_disputes(connection)
    return {
        "status": "done",
        "dag": context.dag,
        "run_id": context.run_id,
        "transactions": len(ids),
        "classes_changed": changed,
        "classes_refreshed": refreshed,
        "cases_opened": opened,
        "cases_settled": settled,
        "disputes_open": disputes.open,
        "seconds": round(monotonic() - started, 3),
    }


def _refresh(context: RunContext) -> int:
    """Classes that the passing of time changes, where the stream has not brought them up to date."""
    total, batch = 0, context.parameters.feedback.batch
    with closing(context.database()) as connection:
        while (done := refresh_classes(connection, batch)) == batch:
            total += done
    return total + done


VERBS: Final = (
    Verb(COLLECT, "collect what people and banks have reported since the last run", collect),
    Verb("apply", "bring the truth up to date with what the run has collected", apply, continues=COLLECT),
)
