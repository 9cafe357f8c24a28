"""The application of `mlflow server --app-name fraud`: MLflow's own, with our defaults for its web page."""

from __future__ import annotations

from typing import Final

from mlflow.server.fastapi_app import app as mlflow_app

from fraud_mlflow.page import PageDefaults

app: Final = PageDefaults(mlflow_app)
