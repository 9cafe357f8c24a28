"""What `mlflow server --app-name fraud` serves: MLflow's own application, with our defaults in its page."""

from __future__ import annotations

from typing import Final

from mlflow.server.fastapi_app import app as mlflow_app

from fraud_mlflow.page import PageDefaults

app: Final = PageDefaults(mlflow_app)
