"""The verb `pending`: opens the cases that are due, and says what waits for people."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.audit import Opening
from config.job_results.feedback import PendingResult
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import case_queue, feedback_figures, feedback_runs
from fraud_adapters.postgres.examples import database_clock
from fraud_feedback.arguments import Verb
from fraud_feedback.batches import until_none_left
from fraud_feedback.run_context import RunContext


def pending(context: RunContext, _options: argparse.Namespace) -> PendingResult:
    """Open due cases, return those that were left behind, and count what is not closed.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    feedback, opening = context.parameters.feedback, context.parameters.audit.opening
    with closing(context.database()) as connection:
        opened = _open_decided(connection, opening)
        disputed = until_none_left(
            connection,
            lambda cursor: case_queue.open_disputed(cursor, feedback.dispute_due, feedback.batch),
            feedback.batch,
        )
        settled = until_none_left(
            connection, lambda cursor: case_queue.close_settled(cursor, feedback.batch), feedback.batch
        )
        returned = until_none_left(
            connection, lambda cursor: case_queue.return_left(cursor, feedback.batch), feedback.batch
        )
        now = database_clock(connection)
        queues = feedback_figures.queues(connection, now)
        with connection, connection.cursor() as cursor:
            reports = feedback_runs.waiting(cursor)
    for queue in queues:
        if queue.breached:
            get_logger(__name__).warning("cases_past_their_time", origin=queue.origin, cases=queue.breached)
    return {
        "status": "done",
        "dag": context.dag,
        "run_id": context.run_id,
        "opened": opened,
        "disputed": disputed,
        "settled": settled,
        "returned": returned,
        "pending": {
            queue.origin: {
                "open": queue.open,
                "assigned": queue.assigned,
                "breached": queue.breached,
                "oldest_hours": round(queue.oldest.total_seconds() / 3600, 2),
            }
            for queue in queues
        },
        "breached": sum(queue.breached for queue in queues),
        "reports_waiting": reports,
    }


def _open_decided(connection: Connection, opening: Opening) -> int:
    """Search all that the web app, which searches every second, has not: it may not run."""
    total, searched = 0, -1
    while True:
        with connection, connection.cursor() as cursor:
            opened = case_queue.open_decided(cursor, opening)
            position = case_queue.searched_to(cursor)
        total += opened
        if opened < opening.batch and position == searched:
            return total
        searched = position


VERBS: Final = (Verb("pending", "open the cases that are due, and say what waits for people", pending),)
