"""The checks in the first task of a DAG; each function reports a problem in one sentence.

The jobs check their configuration too; these checks find problems before a job is started.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from config import constants
from fraud_airflow import jobs


def producer_config() -> dict[str, Any]:
    """The producer's variables are set; broker, topic and database answer, as the API reports.

    Raises:
        AirflowFailException: a variable is missing.
        AirflowException: one of the three does not answer; whether there is a model does not matter here.
    """
    from hooks.api_hook import FraudApiHook

    topic = transactions_topic()
    require_secrets("producer")
    FraudApiHook().ready(("broker", "topic", "database"))
    return {"topic": topic}


def streaming_config() -> dict[str, Any]:
    """The consumer's variables are set, the API accepts our token, and all its parts are ready.

    Raises:
        AirflowFailException: a variable is missing.
        AirflowException: the token is refused, or a part is not ready.
    """
    from hooks.api_hook import FraudApiHook

    topic = transactions_topic()
    require_secrets("streaming")
    api = FraudApiHook()
    parts = api.ready(deep=True)
    api.get("/models")
    return {"topic": topic, "model": (parts.get("model") or {}).get("version")}


def token_config() -> dict[str, Any]:
    """The API, which issues tokens, answers.

    Raises:
        AirflowException: it does not, or is not ready.
    """
    from hooks.api_hook import FraudApiHook

    FraudApiHook().ready(deep=False)
    return {"connection": constants.CONNECTION_API, "variable": constants.VARIABLE_API_TOKEN}


def transactions_topic() -> str:
    """The topic of the transactions, from whose name the other topics' names are derived."""
    topic = constants.ENV_VARS["KAFKA_TOPIC"]
    if not topic.endswith("-transactions"):
        raise AirflowFailException(f"KAFKA_TOPIC is {topic}: its name must end in -transactions.")
    return topic


def require_secrets(service: str) -> None:
    """All secrets of the service's jobs are set for the workers; their values are not used here.

    Raises:
        AirflowFailException: a secret is missing, so a retry would not help.
    """
    if missing := jobs.missing_secrets(jobs.check_service(service), os.environ):
        verb = "is" if len(missing) == 1 else "are"
        raise AirflowFailException(
            f"{', '.join(missing)} {verb} not set for Airflow's workers: set it in .env and start them again."
        )
