"""The verb `performance`: measures, judges, stores and reports."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from time import monotonic
from typing import Final, TypeVar, cast

from config.job_results.monitor import FigureResult, PerformanceResult
from config.services import Backend
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.performance_metrics import store_metrics
from fraud_core.performance.verdict import Verdict
from fraud_monitor.arguments import Verb
from fraud_monitor.guarded import guarded
from fraud_monitor.performance.measured import Measured, metric_rows
from fraud_monitor.performance.measuring import measure
from fraud_monitor.performance.report import publish, track
from fraud_monitor.run_context import RunContext

T = TypeVar("T")
_TITLES: Final = {
    "critical": "The model is not fit for service",
    "medium": "The model has become worse",
    "none": "The model performs as it should",
    "insufficient": "The model's performance is not known",
}


def performance(context: RunContext, _options: argparse.Namespace) -> PerformanceResult:
    """Judge the champion on the period whose truth is known.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
        RegistryUnavailable: MLflow does not say which version is champion.
    """
    started = monotonic()
    champion = context.champion()
    with closing(context.database()) as connection:
        now = database_clock(connection)
        if champion is None:
            return _nothing(context, now, "There is no champion.", started)
        measured = measure(context, connection, champion, now)
        with connection, connection.cursor() as cursor:
            store_metrics(
                cursor,
                context.contract.schema_id,
                context.run.run_id,
                champion.version,
                metric_rows(measured),
                window=(measured.start, measured.end),
                labels=measured.figures.counts.total,
            )
    problems = list(measured.problems)
    report = _unless_broken("object store", problems, lambda: publish(context, measured, champion.profile))
    run_id = _unless_broken("mlflow", problems, lambda: track(context, measured, report))
    get_logger(__name__).info(
        "performance_verdict", severity=measured.verdict.severity, sentence=measured.verdict.sentence
    )
    return _result(
        context,
        measured,
        report=report.key if report else None,
        mlflow_run_id=run_id,
        problems=problems,
        started=started,
    )


def _unless_broken(source: str, problems: list[str], work: Callable[[], T]) -> T | None:
    """What the work gives, or None and a problem more if its server does not answer."""
    done = guarded(source, lambda: (work(),))
    if isinstance(done, str):
        problems.append(done)
        return None
    return done[0]


def _result(
    context: RunContext,
    measured: Measured,
    *,
    report: str | None,
    mlflow_run_id: str | None,
    problems: list[str],
    started: float,
) -> PerformanceResult:
    counts, verdict = measured.figures.counts, measured.verdict
    latency = measured.served.total if measured.served else None
    return {
        "status": "done",
        "dag": context.run.dag,
        "run_id": context.run.run_id,
        "champion": measured.champion,
        "window_from": measured.start.isoformat(),
        "window_to": measured.end.isoformat(),
        "labels": counts.total,
        "frauds": counts.tp + counts.fn,
        "left_out_blocked": measured.left_out_blocked,
        "figures": {name: cast(FigureResult, asdict(one)) for name, one in measured.figures.count.items()},
        "money": {name: cast(FigureResult, asdict(one)) for name, one in measured.figures.money.items()},
        "latency_ms": {name: getattr(latency, name, None) for name in ("p50", "p95", "p99")},
        "throughput": measured.throughput,
        "severity": verdict.severity,
        "title": f"{_TITLES[verdict.severity]}: version {measured.champion}",
        "text": verdict.sentence,
        "report": report,
        "mlflow_run_id": mlflow_run_id,
        "problems": problems,
        "seconds": round(monotonic() - started, 3),
    }


def _nothing(context: RunContext, now: datetime, reason: str, started: float) -> PerformanceResult:
    verdict = Verdict("insufficient", reason)
    return {
        "status": "done",
        "dag": context.run.dag,
        "run_id": context.run.run_id,
        "champion": None,
        "window_from": now.isoformat(),
        "window_to": now.isoformat(),
        "labels": 0,
        "frauds": 0,
        "left_out_blocked": 0,
        "figures": {},
        "money": {},
        "latency_ms": {"p50": None, "p95": None, "p99": None},
        "throughput": 0.0,
        "severity": verdict.severity,
        "title": _TITLES[verdict.severity],
        "text": verdict.sentence,
        "report": None,
        "mlflow_run_id": None,
        "problems": [],
        "seconds": round(monotonic() - started, 3),
    }


VERBS: Final[tuple[Verb, ...]] = (
    Verb(
        "performance",
        "judge the champion by the labels that are mature",
        "06_model_performance_tracking",
        performance,
        needs=(Backend.MLFLOW, Backend.OBJECT_STORE),
    ),
)
