"""# A new API token, every midnight

Fetches a token with the credentials of the connection `fraud_api`, verifies that the API accepts it, and only
then stores it as the Variable `fraud_api_token`. It is valid for longer than a day, so it does not expire
between two runs; a task whose token is rejected fetches a new one itself. The jobs fetch their own tokens.

## When it fails

The previous token stays in force; see `docs/TOKEN_MANAGEMENT.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from fraud_airflow import checks, completion, tokens
from fraud_airflow.defaults import dag_defaults

with DAG(
    "00_token_renewal",
    description="Renews the token of Airflow's API client",
    schedule="0 0 * * *",
    doc_md=__doc__,
    # Not paused: a token that is not renewed expires.
    **dag_defaults(
        ["security"],
        paused=False,
        task_timeout=timedelta(minutes=1),
        run_timeout=timedelta(minutes=15),
        priority_weight=50,
        retries=4,
        retry_delay=timedelta(minutes=1),
    ),
):
    validate_token_config = PythonOperator(
        task_id="validate_token_config", python_callable=checks.token_config
    )
    renew_api_token = PythonOperator(task_id="renew_api_token", python_callable=tokens.renew)
    verify_api_token = PythonOperator(task_id="verify_api_token", python_callable=tokens.verify)
    log_token_renewal = PythonOperator(
        task_id="log_token_renewal",
        python_callable=completion.token,
        op_args=[renew_api_token.output],
        trigger_rule="none_failed",
    )
    validate_token_config >> renew_api_token >> verify_api_token >> log_token_renewal
