"""# A new model, if one is needed, every night at two

`check_should_retrain` decides, and stores the decision with its figures in the table `retraining_triggers`.
No model is trained if the last training finished less than 48 hours ago, if fewer than 10,000 transactions
have a label that is known since, or if the champion's recall and false positive rate on mature labels are
shown to keep the gate's bounds. *force*, an open trigger and the lack of a champion override all three.

Otherwise the steps hand over through the object store, up to a version in MLflow; where `training.promotion`
is *canary*, its release is started. See `docs/training.md`.

## When it fails

What serves goes on serving. A model that fails its gate is registered without an alias, and people are
alerted with the figure that missed its bound. Any other error is named in the failed task's log; clear that
task to go on from there: no step makes a second version.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import DAG

from fraud_airflow import training
from fraud_airflow.defaults import dag_defaults, from_the_next

with DAG(
    "01_training_pipeline",
    description="Decides whether a new model is needed, trains, judges and registers it",
    schedule=from_the_next("0 2 * * *"),
    doc_md=__doc__,
    params=training.PARAMS,
    # Not paused: `POST /train` starts runs of it, and one of a paused DAG would wait for ever.
    **dag_defaults(
        ["training", "critical"],
        paused=False,
        start=None,
        task_timeout=timedelta(minutes=50),
        run_timeout=timedelta(hours=2),
        retries=1,
        priority_weight=20,
    ),
):
    check_should_retrain = training.step("check_should_retrain", "decide")
    decide_training_branch = BranchPythonOperator(
        task_id="decide_training_branch",
        python_callable=training.branch,
        op_args=[check_should_retrain.output],
    )
    skip_training = EmptyOperator(task_id="skip_training")
    load_training_data = training.step("load_training_data", "load")
    feature_engineering = training.step("feature_engineering", "features")
    train_models = training.step("train_models", "train")
    validate = training.step("validate", "validate")
    register_mlflow = training.step(training.REGISTER, "register")
    check_should_retrain >> decide_training_branch >> [load_training_data, skip_training]
    load_training_data >> feature_engineering >> train_models >> validate >> register_mlflow
    register_mlflow >> training.released(register_mlflow.output)
