"""The verbs of drift monitoring.

Each imports its work when it runs, because the other verbs do not need its packages.
"""

from __future__ import annotations

import argparse
from typing import Final

from config.constants import DAG_DRIFT
from config.services import Backend
from fraud_adapters.job import Result
from fraud_monitor.arguments import Verb
from fraud_monitor.run_context import RunContext


def _drift(context: RunContext, options: argparse.Namespace) -> Result:
    from fraud_monitor.drift.detecting import drift  # noqa: PLC0415 - takes half a second

    return drift(context, options)


def _save_drift(context: RunContext, options: argparse.Namespace) -> Result:
    from fraud_monitor.drift.saving import save_drift  # noqa: PLC0415 - takes half a second

    return save_drift(context, options)


VERBS: Final = (
    Verb(
        "drift",
        "compare inputs, scores and performance with the champion's reference, and decide what follows",
        DAG_DRIFT,
        _drift,
        needs=(Backend.MLFLOW, Backend.OBJECT_STORE),
    ),
    Verb(
        "save-drift",
        "make the report of a run of drift, and log it with its figures to MLflow",
        DAG_DRIFT,
        _save_drift,
        needs=(Backend.MLFLOW, Backend.OBJECT_STORE),
        continues="drift",
    ),
)
