"""The application of `mlflow server --app-name fraud`: MLflow's own with users, and our page defaults."""

from __future__ import annotations

import os

from fraud_mlflow import accounts, users
from fraud_mlflow.page import PageDefaults


def create() -> PageDefaults:
    """The application; its users are in place when it is returned, so before the server listens.

    MLflow is imported here because its command line imports this module too, in the parent of the server.
    """
    from mlflow.server import auth  # noqa: PLC0415

    # A file would have to hold the password of the database.
    auth.auth_config = auth.auth_config._replace(database_uri=os.environ["MLFLOW_BACKEND_STORE_URI"])
    application = auth.create_app()
    accounts.prepare(auth.store, users.users(os.environ))
    return PageDefaults(application)
