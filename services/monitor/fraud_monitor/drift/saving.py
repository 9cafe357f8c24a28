"""The verb `save-drift`: the report for people, and the figures in MLflow, linked from the version."""

from __future__ import annotations

import argparse
from contextlib import closing
from time import monotonic

import numpy as np

from config.job_results.monitor import SaveDriftResult
from fraud_adapters.job import NothingToDo
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import drift_metrics
from fraud_adapters.postgres.retraining_triggers import RunName
from fraud_core import profile as profiles
from fraud_core.profile import Profile
from fraud_monitor.drift import report
from fraud_monitor.drift.detecting import SAMPLE
from fraud_monitor.run_context import EXPERIMENT, RunContext

REPORT = report.FILE_NAME
TAG_DRIFT_RUN = "fraud.drift_run"  # of a model version: the MLflow run of the latest drift monitoring


def save_drift(context: RunContext, _options: argparse.Namespace) -> SaveDriftResult:
    """Make the report of a run of `drift`, and log it and the figures to MLflow.

    Raises:
        NothingToDo: `drift` did not finish in this run.
        LastingFailure: its rows are not in the database.
    """
    started = monotonic()
    found = _found(context)
    rows = _stored_rows(context)
    if rows < int(found["metrics_stored"]):
        raise LastingFailure(
            f"drift_metrics holds {rows} rows of {context.run.prefix}, not {found['metrics_stored']}: "
            "run drift again."
        )
    page = _page(context, found)
    if page is not None:
        context.run.put(REPORT, page.encode())
    return {
        "status": "done",
        "dag": context.run.dag,
        "run_id": context.run.run_id,
        "metrics_stored": rows,
        "report": f"{context.run.prefix}/{REPORT}" if page is not None else None,
        "mlflow_run_id": _log(context, found, page) if found["champion"] else None,
        "seconds": round(monotonic() - started, 2),
    }


def _found(context: RunContext) -> Step:
    try:
        return context.run.step("drift")
    except LastingFailure as missing:
        raise NothingToDo(f"drift has not finished in this run: {missing}") from None


def _stored_rows(context: RunContext) -> int:
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        return drift_metrics.count_drift_metrics(cursor, RunName(context.run.dag, context.run.run_id))


def _page(context: RunContext, found: Step) -> str | None:
    files = found["files"]
    if not files:
        return None
    profile = Profile.from_json(context.run.get(profiles.FILE_NAME, files[profiles.FILE_NAME]))
    table = context.run.get_table(SAMPLE, files[SAMPLE])
    features = np.column_stack(
        [table[f"f{k}"].to_numpy(zero_copy_only=False) for k in range(len(profile.features))]
    )
    text = "\n".join(filter(None, [found["text"], found["held_back"]]))
    return report.make_report(profile, features, table["score"].to_numpy(), found["title"], text)


def _log(context: RunContext, found: Step, page: str | None) -> str:
    """Log to this run's MLflow run; a repeated step goes on with the same one."""
    tracking, name, version = context.tracking(), context.contract.registered_model, found["champion"]
    known = context.tracked.find(context.run.prefix)
    run_id = (
        known[0].run_id
        if known
        else context.tracked.open(
            EXPERIMENT,
            context.run.prefix,
            f"{context.run.dag}/{context.run.run_id}",
            {"model": name, "model_version": version, "mlflow.source.name": "fraud_monitor"},
        )
    )
    tracking.log(
        run_id,
        metrics=found["figures"],
        tags={"severity": found["severity"], "title": found["title"], "mlflow.note.content": found["text"]},
    )
    if page is not None:
        with scratch_directory() as directory:
            report.write(page, directory)
            tracking.log_files(run_id, directory)
    context.tracked.end(run_id, "FINISHED")
    tracking.tag_version(name, version, {TAG_DRIFT_RUN: run_id, "fraud.drift": found["severity"]})
    return run_id
