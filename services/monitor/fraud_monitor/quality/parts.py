"""Checks of the platform's parts: the runs of DAGs, and the API."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection  # noqa: N812

from config import settings
from fraud_adapters.api_health import not_ready
from fraud_adapters.postgres import airflow_task_metrics as task_metrics
from fraud_adapters.postgres.arrivals import Window
from fraud_core.quality import pipeline
from fraud_core.quality.checks import Check, insufficient
from fraud_monitor.guarded import guarded
from fraud_monitor.run_context import RunContext


def checks(context: RunContext, connection: Connection, window: Window) -> list[Check]:
    """The checks of this module."""
    rules = context.parameters.quality
    outcomes = guarded("airflow_task_metrics", lambda: _outcomes(connection, window))
    durations = guarded("airflow_task_metrics", lambda: _durations(connection, window))
    return [
        insufficient("pipeline_dags", outcomes)
        if isinstance(outcomes, str)
        else pipeline.dag_runs(outcomes, rules),
        insufficient("pipeline_durations", durations)
        if isinstance(durations, str)
        else pipeline.durations(durations, rules),
        pipeline.api(*not_ready(settings.load(settings.ApiAddressSettings).url)),
    ]


def _outcomes(connection: Connection, window: Window) -> list[pipeline.TaskOutcomes]:
    with connection, connection.cursor() as cursor:
        return task_metrics.outcomes(cursor, window.start, window.end)


def _durations(connection: Connection, window: Window) -> list[pipeline.RunDurations]:
    with connection, connection.cursor() as cursor:
        return task_metrics.durations(cursor, window.start, window.end)
