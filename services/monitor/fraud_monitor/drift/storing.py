"""Stores what a run found, and opens the trigger of a retraining: in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Literal

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import drift_metrics, model_versions, performance_estimates, retraining_triggers
from fraud_adapters.postgres.drift_metrics import DriftMetric
from fraud_adapters.postgres.performance_estimates import EstimatedWindow
from fraud_adapters.postgres.retraining_evidence import count_new_labels
from fraud_adapters.postgres.retraining_triggers import RunName
from fraud_core.drift.features import FeatureDrift, Severity
from fraud_core.drift.response import Response, TriggerHistory, respond
from fraud_core.drift.verdict import WindowDrift
from fraud_monitor.drift import rules
from fraud_monitor.drift.measuring import Findings
from fraud_monitor.run_context import RunContext

SOURCE: Final = "drift"  # of triggers in `retraining_triggers`


@dataclass(frozen=True, slots=True)
class Stored:
    """What follows from the verdict; the trigger that was opened, and how many rows were stored."""

    response: Response
    trigger: int | None
    rows: int


def store(context: RunContext, found: Findings) -> Stored:
    """Store the metrics, the verdict and the estimates, and open a trigger if a retraining is needed."""
    run = RunName(context.run.dag, context.run.run_id)
    rows = list(metric_rows(context, found))
    with closing(context.database()) as connection:
        new_labels = _new_labels(context, connection, found)
        with connection, connection.cursor() as cursor:
            retraining_triggers.lock_decisions(cursor)
            last = retraining_triggers.last_trigger(cursor, SOURCE, not_found_by=context.run.prefix)
            training = model_versions.last_training(cursor, context.contract.registered_model)
            history = TriggerHistory(
                last_trigger=last.triggered_at if last else None,
                unfinished=last.unfinished if last else False,
                rejected=training is not None and not training.gate_passed,
                new_labels=new_labels,
            )
            verdict = found.verdict
            response = respond(verdict.severity, history, rules.response_rule(context.parameters), found.now)
            trigger = None
            if response.step == "retrain":
                trigger = retraining_triggers.open_trigger(
                    cursor,
                    source=SOURCE,
                    severity=verdict.severity,
                    reason=f"{verdict.title}. {' '.join(verdict.text.split())}",
                    found_by=context.run.prefix,
                    details={"champion": found.champion.version if found.champion else None},
                )
            drift_metrics.store_drift_metrics(cursor, run, found.now, rows)
            _store_estimates(context, cursor, run, found)
    return Stored(response, trigger, len(rows))


def metric_rows(context: RunContext, found: Findings) -> Iterator[DriftMetric]:
    """The rows of `drift_metrics`: every feature and rate of every window, the performance, the verdict."""
    of_run = _Rows(context.contract.schema_id, found.champion.version if found.champion else None)
    parameters = context.parameters
    for window in found.windows:
        for feature in window.features:
            yield from _feature_rows(of_run, window, feature, parameters.thresholds.data_drift)
        yield of_run.of_window(
            window,
            "data",
            "drifted_share",
            window.share,
            threshold=window.share_bound,
            severity=window.data_severity,
            details={"ahead": window.ahead},
        )
        rate = window.predicted_rate
        yield of_run.of_window(
            window,
            "target",
            "predicted_rate",
            rate.value,
            threshold=parameters.drift.target.change,
            severity=rate.severity,
            details={"low": rate.low, "high": rate.high, "reference": rate.reference, "reason": rate.reason},
        )
        yield of_run.of_window(window, "target", "score_psi", window.score_psi, severity="none", details={})
    yield from _labelled_rows(of_run, context, found)
    verdict = found.verdict
    yield DriftMetric(
        contract=of_run.contract,
        model_version=of_run.version,
        kind="verdict",
        feature=None,
        metric="verdict",
        value=None,
        threshold=None,
        severity=verdict.severity,
        window_name=None,
        window_from=found.windows[-1].start if found.windows else None,
        window_to=found.now,
        rows=found.windows[-1].rows if found.windows else None,
        labels=found.evidence.performance.total,
        details={
            "title": verdict.title,
            "text": verdict.text,
            "data": verdict.data,
            "target": verdict.target,
            "concept": verdict.concept,
            "unknown": list(verdict.unknown),
            "top": [one.name for one in verdict.top],
        },
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Makes the rows of one run."""

    contract: str
    version: str | None

    def of_window(
        self,
        window: WindowDrift,
        kind: Literal["data", "target"],
        metric: str,
        value: float | None,
        *,
        severity: Severity,
        details: dict[str, Any],
        threshold: float | None = None,
        feature: str | None = None,
    ) -> DriftMetric:
        return DriftMetric(
            contract=self.contract,
            model_version=self.version,
            kind=kind,
            feature=feature,
            metric=metric,
            value=value,
            threshold=threshold,
            severity="insufficient" if value is None else severity,
            window_name=window.name,
            window_from=window.start,
            window_to=window.end,
            rows=window.rows if kind == "data" else window.scored,
            labels=None,
            details=details,
        )


def _feature_rows(
    of_run: _Rows, window: WindowDrift, feature: FeatureDrift, threshold: float
) -> Iterator[DriftMetric]:
    details = {
        "p_value": feature.p_value,
        "drifted": feature.drifted,
        "moved": str(feature.movement) if feature.movement else None,
        "reason": feature.reason,
    }
    yield of_run.of_window(
        window,
        "data",
        "psi",
        feature.psi,
        threshold=threshold,
        severity=feature.severity,
        feature=feature.name,
        details=details,
    )
    # What adds to the picture, and is not itself a reason for an alert.
    for metric, value in ((feature.measure, feature.effect), ("missing_share", feature.missing)):
        yield of_run.of_window(
            window, "data", metric, value, severity="none", feature=feature.name, details={}
        )


def _labelled_rows(of_run: _Rows, context: RunContext, found: Findings) -> Iterator[DriftMetric]:
    rate, evidence = found.fraud_rate, found.evidence
    common: dict[str, Any] = {
        "contract": of_run.contract,
        "model_version": of_run.version,
        "feature": None,
        "window_name": "labels",
    }
    yield DriftMetric(
        **common,
        kind="target",
        metric="fraud_rate",
        value=rate.value,
        threshold=context.parameters.drift.target.change,
        severity=rate.severity,
        window_from=None,
        window_to=None,
        rows=rate.rows,
        labels=rate.rows,
        details={"low": rate.low, "high": rate.high, "reference": rate.reference, "reason": rate.reason},
    )
    for one in found.performance:
        yield DriftMetric(
            **common,
            kind="concept",
            metric=one.metric,
            value=one.value,
            threshold=one.bound,
            severity=one.severity,
            window_from=evidence.since,
            window_to=evidence.until,
            rows=evidence.performance.total,
            labels=one.trials,
            details={"low": one.low, "high": one.high, "baseline": one.baseline, "reason": one.reason},
        )


def _store_estimates(context: RunContext, cursor: Any, run: RunName, found: Findings) -> None:
    """Of the short window: it is the estimate that people see, and its labels mature first."""
    if found.champion is None or not found.windows:
        return
    window = found.windows[0]
    about = EstimatedWindow(
        context.contract.schema_id,
        found.champion.version,
        window.start,
        window.end,
        window.scored,
        window.trusted,
    )
    performance_estimates.store_estimates(cursor, run, found.now, about, window.estimates)


def _new_labels(context: RunContext, connection: Connection, found: Findings) -> int:
    """Labels that the last training did not have; counted only where they matter."""
    if found.verdict.severity not in {"critical", "high"}:
        return 0
    with connection, connection.cursor() as cursor:
        last = model_versions.last_training(cursor, context.contract.registered_model)
    if last is None or last.gate_passed:
        return 0
    return count_new_labels(connection, context.contract, found.now, last.labels_as_of)
