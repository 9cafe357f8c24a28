"""The verb `quality`: makes every check, stores the outcomes, and says whether people are alerted."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import closing
from time import monotonic
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.job_results.monitor import QualityCheckResult, QualityResult
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres.arrivals import Window
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.quality_reports import insufficient_in_a_row, store_checks
from fraud_core.quality.checks import Check
from fraud_core.quality.report import QualityAlert, alert_of
from fraud_monitor.arguments import Verb
from fraud_monitor.quality import parts, tables, topics, vectors
from fraud_monitor.run_context import RunContext


def quality(context: RunContext, _options: argparse.Namespace) -> QualityResult:
    """Make every check on the latest window.

    A source that cannot be read leaves its checks without a verdict; the others are made all the same.

    Raises:
        DatabaseUnavailable: the outcomes cannot be stored.
    """
    started = monotonic()
    with closing(context.database()) as connection:
        now = database_clock(connection)
        window = Window(now - context.parameters.quality.window, now)
        checks = all_checks(context, connection, window)
        alert = _store(context, connection, checks, window)
    for check in checks:
        get_logger(__name__).info(
            "quality_check", check=check.name, outcome=check.status.value, sentence=check.sentence
        )
    return {
        "status": "done",
        "dag": context.run.dag,
        "run_id": context.run.run_id,
        "window_from": window.start.isoformat(),
        "window_to": window.end.isoformat(),
        "checks": [_result(check) for check in checks],
        "counts": dict(Counter(check.status.value for check in checks)),
        "severity": alert.severity,
        "title": alert.title,
        "text": alert.text,
        "seconds": round(monotonic() - started, 3),
    }


def all_checks(context: RunContext, connection: Connection, window: Window) -> list[Check]:
    """Every check, source by source."""
    counted = tables.count(context, connection, window)
    features = vectors.read(context, connection, window)
    stream = topics.read(context, connection)
    return [
        *tables.checks(context, counted, features.champion),
        *features.checks,
        *topics.checks(context, stream, counted, features.repeated),
        *parts.checks(context, connection, window),
    ]


def _store(context: RunContext, connection: Connection, checks: list[Check], window: Window) -> QualityAlert:
    contract, limit = context.contract.schema_id, context.parameters.quality.insufficient_windows
    with connection, connection.cursor() as cursor:
        store_checks(cursor, contract, context.run.run_id, checks, (window.start, window.end))
        return alert_of(checks, insufficient_in_a_row(cursor, contract), limit)


def _result(check: Check) -> QualityCheckResult:
    return {
        "name": check.name,
        "status": check.status.value,
        "severity": check.severity,
        "sentence": check.sentence,
        "value": check.value,
        "bound": check.bound,
        "rows": check.rows,
    }


VERBS: Final[tuple[Verb, ...]] = (
    Verb("quality", "check the quality of the data of the latest window", "04_data_quality", quality),
)
