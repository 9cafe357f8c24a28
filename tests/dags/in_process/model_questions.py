"""Tasks that ask MLflow; the model's name comes with the environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from airflow.sdk import DAG, task

from hooks.mlflow_hook import FraudMlflowHook
from operators.mlflow_operator import FraudMlflowOperator

MODEL = os.environ.get("TEST_MODEL", "")

with DAG("model_versions", schedule=None) as model_versions:

    @task
    def promote_the_newest() -> None:
        hook = FraudMlflowHook()
        newest, *older = hook.model_versions(MODEL)
        hook.set_alias(MODEL, "champion", newest.version)
        named = hook.model_version(MODEL, "champion")
        assert named is not None
        run = hook.run(named.run_id)
        answer = {"older": len(older), "named": asdict(named), "run": asdict(run)}
        print("ANSWER" + json.dumps(answer))

    champion = FraudMlflowOperator(task_id="champion", model_name="{{ 'fraud-' }}" + MODEL[6:])

    @task
    def log_document(document: dict[str, str]) -> None:
        print("DOCUMENT" + json.dumps(document))

    promote_the_newest() >> champion >> log_document(champion.output)

with DAG("model_missing", schedule=None) as model_missing:
    FraudMlflowOperator(task_id="challenger", model_name=MODEL, alias="challenger")

with DAG("model_wrong_alias", schedule=None) as model_wrong_alias:

    @task
    def set_wrong_alias() -> None:
        FraudMlflowHook().set_alias(MODEL, "champion", "99")

    set_wrong_alias()


def run_all() -> None:
    """Run each DAG once."""
    for dag in (model_versions, model_missing, model_wrong_alias):
        print("RUN", dag.dag_id)
        print("ENDED", dag.dag_id, dag.test().state)
