"""The verb `decide`: whether to train. Every decision is stored with its reasons and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import ALIAS_CHAMPION
from config.job_results.trainer import DecisionResult
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable, model_versions, retraining_triggers
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.retraining_evidence import (
    LabelledPredictions,
    count_new_labels,
    labelled_predictions,
)
from fraud_adapters.postgres.retraining_triggers import RunName, Trigger
from fraud_core.metrics import Confusion
from fraud_core.retraining import RetrainingDecision, RetrainingEvidence, RetrainingRule
from fraud_core.retraining import decide as decide_by_rule
from fraud_trainer.run_context import RunContext

_NONE: Final = LabelledPredictions(Confusion(0, 0, 0, 0), 0)


def decide(context: RunContext, *, forced: bool) -> DecisionResult:
    """Decide whether the run trains, store the decision, and take the open triggers if it does.

    A retry decides again; a decision to train that the run has not acted on yet is replaced.
    """
    name = context.contract.registered_model
    champion = context.registry.version_of_alias(name, ALIAS_CHAMPION)
    with closing(context.database()) as connection:
        now = database_clock(connection)
        with connection, connection.cursor() as cursor:
            last = model_versions.last_training(cursor, name)
        new_labels = count_new_labels(connection, context.contract, now, last.labels_as_of if last else None)
        performance = _performance(context, connection, champion, now)
        result: DecisionResult = {
            "status": "done",
            "dag": context.run.dag,
            "run_id": context.run.run_id,
            "retrain": False,
            "reason": "",
            "forced": forced,
            "champion": champion,
            "last_training": last.finished_at.isoformat() if last else None,
            "new_labels": new_labels,
            "labelled_predictions": performance.counts.total,
            "labelled_frauds": performance.counts.tp + performance.counts.fn,
            "left_out_blocked": performance.left_out_blocked,
            "triggers": [],
        }
        evidence = RetrainingEvidence(
            now=now,
            champion=champion,
            last_training=last.finished_at if last else None,
            new_labels=new_labels,
            performance=performance.counts,
            forced=forced,
        )
        return _store(context, connection, evidence, result)


def _performance(
    context: RunContext, connection: Connection, champion: str | None, now: datetime
) -> LabelledPredictions:
    if champion is None:
        return _NONE
    newest = context.training.retrain.performance_labels
    return labelled_predictions(connection, context.contract, champion, now, newest)


def _store(
    context: RunContext, connection: Connection, evidence: RetrainingEvidence, result: DecisionResult
) -> DecisionResult:
    """Decide with the triggers that are open now; the decision and its triggers change together."""
    run, retrain = _run_name(context), context.training.retrain
    rule = RetrainingRule(retrain.min_interval, retrain.min_new_labels, retrain.min_labels_for_performance)
    with connection, connection.cursor() as cursor:
        retraining_triggers.lock_decisions(cursor)
        retraining_triggers.release_abandoned(cursor, evidence.now - retrain.run_limit)
        triggers = retraining_triggers.open_triggers(cursor, run)
        decision = decide_by_rule(rule, context.policy, _with_triggers(evidence, triggers))
        result["retrain"], result["reason"] = decision.retrain, decision.sentence()
        result["triggers"] = [trigger.trigger_id for trigger in triggers]
        if decision.retrain:
            retraining_triggers.take(cursor, run, triggers)
        details = _details(context, decision, result)
        retraining_triggers.store_decision(
            cursor, run, retrain=decision.retrain, sentence=result["reason"], details=details
        )
    get_logger(__name__).info("decision", retrain=decision.retrain, reason=result["reason"])
    return result


def _with_triggers(evidence: RetrainingEvidence, triggers: list[Trigger]) -> RetrainingEvidence:
    reasons = tuple(f"{trigger.source}, {trigger.severity}: {trigger.reason}" for trigger in triggers)
    return replace(evidence, triggers=reasons)


def _details(context: RunContext, decision: RetrainingDecision, result: DecisionResult) -> dict[str, Any]:
    """What the row shows beside the sentence: the figures, all reasons, and the rule in force."""
    figures = {
        name: value for name, value in result.items() if name not in {"status", "dag", "run_id", "reason"}
    }
    return {
        **figures,
        **decision.to_mapping(),
        "gate": context.gate,
        "rule": context.training.retrain.model_dump(mode="json"),
    }


@contextmanager
def held_triggers(context: RunContext, results: Mapping[str, Any]) -> Iterator[None]:
    """Settle the triggers that the run holds: done if the work has registered a version, open if it failed.

    Args:
        results: the results of the steps, which the work adds.
    """
    try:
        yield
    except BaseException as error:
        done = error.result if isinstance(error, JobFailed) else {}
        try:
            _settle(context, done.get("register") or {}, f"failed: {error}")
        except (DatabaseUnavailable, psycopg2.Error) as unavailable:
            # Only logged, so that the job reports its own failure. A later decision releases the triggers.
            get_logger(__name__).warning("triggers_left", run=context.run.prefix, reason=str(unavailable))
        raise
    if "register" in results:
        _settle(context, results["register"], "")


def _settle(context: RunContext, registered: Mapping[str, Any], failure: str) -> None:
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        if "version" in registered:
            verdict = "passed" if registered["gate_passed"] else "failed"
            outcome = f"version {registered['version']}, which {verdict} its gate"
            retraining_triggers.close(cursor, _run_name(context), outcome)
        else:
            retraining_triggers.release(cursor, _run_name(context), failure)


def _run_name(context: RunContext) -> RunName:
    return RunName(context.run.dag, context.run.run_id)
