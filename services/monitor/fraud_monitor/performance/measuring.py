"""Reads what the figures need, and judges them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres.outcomes import VersionOutcomes, read_outcomes
from fraud_adapters.postgres.performance_metrics import read_trend
from fraud_adapters.postgres.served_predictions import read_served
from fraud_core.performance.figures import Judged
from fraud_core.performance.verdict import judge
from fraud_monitor.guarded import guarded
from fraud_monitor.performance.measured import Measured, figures_of
from fraud_monitor.run_context import Champion, RunContext

TREND: Final = ("recall", "precision", "f1", "fpr")


def measure(context: RunContext, connection: Connection, champion: Champion, now: datetime) -> Measured:
    """Measure and judge the champion at the moment `now` of the database.

    The judged period ends as long ago as silence needs to count as legitimate. Later transactions would bring
    their frauds, which are reported, without the legitimate ones, which are not: precision would look high.
    """
    rules = context.parameters.performance
    end = now - context.parameters.labels.implied_after
    start, service_start = end - rules.window, now - rules.service_window
    outcomes = read_outcomes(connection, context.contract, now, start, end)
    own = next((one for one in outcomes if one.version == champion.version), _none(champion.version))
    figures = figures_of(own, rules.amount_bands)
    held_out = champion.manifest.metrics if champion.manifest else {}
    served = guarded("predictions", lambda: read_served(connection, service_start, now))
    with connection, connection.cursor() as cursor:
        since = now - timedelta(days=rules.trend_days)
        trend = read_trend(cursor, context.contract.schema_id, champion.version, TREND, since)
    problems = [problem for problem in (champion.problem, served) if isinstance(problem, str)]
    return Measured(
        champion=champion.version,
        start=start,
        end=end,
        service_start=service_start,
        service_end=now,
        figures=figures,
        left_out_blocked=own.left_out_blocked,
        left_out_unknown=own.left_out_unknown,
        others={one.version: one.judged.counts for one in outcomes if one.version != champion.version},
        served=None if isinstance(served, str) else served,
        trend=trend,
        verdict=judge(
            figures.counts,
            figures.count,
            held_out,
            floors=context.parameters.floors,
            max_drop=context.parameters.thresholds.concept_drift,
            rules=rules,
        ),
        held_out=held_out,
        problems=problems,
    )


def _none(version: str) -> VersionOutcomes:
    """No prediction at all."""
    empty = Judged(
        labels=np.empty(0, np.int8),
        scores=np.empty(0),
        flagged=np.empty(0, np.bool_),
        decisions=np.empty(0, np.int8),
        amounts=np.empty(0),
    )
    return VersionOutcomes(version, empty, 0, 0)
