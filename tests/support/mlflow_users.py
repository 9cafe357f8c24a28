"""The log-ins of the MLflow server that the tests run against."""

from __future__ import annotations

import os
from collections.abc import Mapping

from config.services import mlflow_password


def mlflow_login(user: str, passwords: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables with which a process logs in as a user; the fixture `mlflow_uri` sets the passwords."""
    password = passwords.get(mlflow_password(user)) or "of a server that does not run"
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
