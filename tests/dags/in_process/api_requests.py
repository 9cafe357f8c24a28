"""Tasks that use the hook to the scoring API.

After a DAG the Variable's token lies in the folder TOKENS, as a file named after it: a log must not hold it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.models.variable import Variable as Stored
from airflow.sdk import DAG, Variable, task

from hooks.api_hook import FraudApiHook

CONNECTION = "AIRFLOW_CONN_FRAUD_API"

with DAG("api_requests", schedule=None) as api_requests:

    @task
    def request_model() -> int:
        Variable.set("fraud_api_token", os.environ["OLD_TOKEN"])
        hook = FraudApiHook()
        hook.ready(deep=False)
        return len(hook.get("/models")["models"])

    request_model()

with DAG("api_renewal", schedule=None) as api_renewal:

    @task(multiple_outputs=False)
    def renew() -> dict[str, str]:
        return FraudApiHook().renew_token()

    renew()

with DAG("api_deep", schedule=None) as api_deep:

    @task(multiple_outputs=False)
    def look() -> dict[str, Any]:
        return FraudApiHook().ready()

    look()


def run(dag: DAG, name: str) -> None:
    """Run a DAG in this process, mark where its log begins, and keep the token."""
    print("RUN", name)
    print("ENDED", name, dag.test().state)
    (Path(os.environ["TOKENS"]) / name).write_text(Stored.get("fraud_api_token"))


def run_all() -> None:
    """Run each DAG once, then one with a wrong secret."""
    run(api_requests, "api_requests")
    run(api_renewal, "api_renewal")
    run(api_deep, "api_deep")
    wrong = json.loads(os.environ[CONNECTION]) | {"password": os.environ["WRONG_SECRET"]}
    os.environ[CONNECTION] = json.dumps(wrong)
    run(api_renewal, "wrong_secret")
