"""The verbs of drift monitoring."""

from __future__ import annotations

from typing import Final

from config.constants import DAG_DRIFT
from config.services import Backend
from fraud_monitor.arguments import Verb
from fraud_monitor.drift.detecting import drift
from fraud_monitor.drift.saving import save_drift

VERBS: Final = (
    Verb(
        "drift",
        "compare inputs, scores and performance with the champion's reference, and decide what follows",
        DAG_DRIFT,
        drift,
        needs=(Backend.MLFLOW, Backend.OBJECT_STORE),
    ),
    Verb(
        "save-drift",
        "make the report of a run of drift, and log it with its figures to MLflow",
        DAG_DRIFT,
        save_drift,
        needs=(Backend.MLFLOW, Backend.OBJECT_STORE),
        continues="drift",
    ),
)
