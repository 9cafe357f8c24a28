"""Tasks that use the hook to the scoring API."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from hooks.api_hook import FraudApiHook

with DAG("api_requests", schedule=None):

    @task
    def ask() -> int:
        hook = FraudApiHook()
        hook.ready(deep=False)
        return len(hook.get("/models")["models"])

    ask()

with DAG("api_renewal", schedule=None):

    @task(multiple_outputs=False)
    def renew() -> dict[str, str]:
        return FraudApiHook().renew_token()

    renew()

with DAG("api_deep", schedule=None):

    @task(multiple_outputs=False)
    def look() -> dict[str, Any]:
        return FraudApiHook().ready()

    look()
