"""The verb `housekeeping`: removes from the database what has been kept long enough."""

from __future__ import annotations

import argparse
from contextlib import closing
from datetime import timedelta
from time import monotonic
from typing import Final

from config.feedback import Retention
from config.job_results.feedback import HousekeepingResult
from fraud_adapters.postgres import retention
from fraud_adapters.postgres.examples import database_clock
from fraud_feedback.arguments import Verb
from fraud_feedback.run_context import RunContext


def housekeeping(context: RunContext, _options: argparse.Namespace) -> HousekeepingResult:
    """Remove what is older than the table `retention` says, in bounded database transactions.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    started = monotonic()
    with closing(context.database()) as connection:
        now = database_clock(connection)
        removed = {
            what: retention.forget(connection, what, now - kept, context.parameters.feedback.batch)
            for what, kept in kept_in_database(context.parameters.retention).items()
        }
    return {
        "status": "done",
        "dag": context.dag,
        "run_id": context.run_id,
        "removed": removed,
        "seconds": round(monotonic() - started, 3),
    }


def kept_in_database(table: Retention) -> dict[str, timedelta]:
    """How long each kind of rows is kept; files of runs the trainer removes, who knows which are needed."""
    return {
        retention.DEAD_LETTERS: table.dead_letters,
        retention.SESSIONS: table.sessions,
        retention.COLLECTED_REPORTS: table.collected_reports,
    }


VERBS: Final = (Verb("housekeeping", "remove what has been kept long enough", housekeeping),)
