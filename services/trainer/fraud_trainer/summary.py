"""The key figures of a training, which the last task of its DAG shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.job_results.trainer import TrainingFigures
from fraud_trainer.run_context import RunContext


def training_figures(context: RunContext, registered: Mapping[str, Any]) -> TrainingFigures:
    """The figures of a run that has registered a version, whether or not the version passed its gate."""
    loaded, metrics = context.run.step("load"), context.run.step("validate")["metrics"]
    return {
        "model": registered["name"],
        "version": registered["version"],
        "gate_passed": registered["gate_passed"],
        "aliases": ",".join(sorted(registered["aliases"])),
        "rows": loaded["rows"],
        "frauds": loaded["frauds"],
        "recall": metrics.get("recall"),
        "fpr": metrics.get("fpr"),
        "precision": metrics.get("precision"),
        "f1": metrics.get("f1"),
        "average_precision": metrics.get("average_precision"),
    }
