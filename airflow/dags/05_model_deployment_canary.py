"""# Releases a model version: canary, judged on live traffic

Checks a version before any traffic, gives it 10 %, then 50 % if what it shows speaks for it. In the end it is
champion, or the previous champion serves everything again: *rolled back* on evidence against it, *withdrawn*
where evidence stays too thin or a step failed. The API judges every two seconds and acts on clear evidence at
once, whatever this run does. See `docs/DAG05_CANARY_DEPLOYMENT_GUIDE.md`.

## When it fails

The previous champion serves. `rollback_to_previous` runs whatever became of the steps before; should it fail,
the API withdraws the release by itself. The failed task's log has the reason. Then start a new run.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from config.constants import DAG_CANARY
from fraud_airflow import release
from fraud_airflow.defaults import dag_defaults
from operators.alert_operator import FraudDetectionAlertOperator

with DAG(
    DAG_CANARY,
    description="Releases a model version by canary, judged on live traffic",
    schedule=None,
    doc_md=__doc__,
    params=release.PARAMS,
    # Not paused: a person starts it, or the training DAG, and a run of a paused DAG would wait for ever.
    **dag_defaults(
        ["deploy", "critical"],
        paused=False,
        task_timeout=timedelta(minutes=15),
        run_timeout=timedelta(hours=4),
        priority_weight=40,
    ),
):
    validate = release.step(release.VALIDATE, "validate", "--version={{ params.version }}")
    deploy_canary = release.traffic("deploy_canary", "canary_percent")
    monitor = release.waiting("monitor_canary_metrics")
    evaluate = release.judged("evaluate_canary_performance", "increase_traffic")
    increase_traffic = release.traffic("increase_traffic", "widened_percent")
    monitor_50 = release.waiting("monitor_canary_metrics_50")
    evaluate_50 = release.judged("evaluate_canary_performance_50", "promote_to_production")
    promote = release.step("promote_to_production", "promote")
    # A teardown: it runs whatever became of the others, and does not hide that one of them failed.
    rollback = release.step(release.ROLL_BACK, "rollback").as_teardown(on_failure_fail_dagrun=False)
    alert = FraudDetectionAlertOperator(task_id="send_rollback_alert", **release.ALERT)
    validate >> deploy_canary >> monitor >> evaluate >> increase_traffic >> monitor_50 >> evaluate_50
    evaluate_50 >> promote
    [evaluate, evaluate_50, promote] >> rollback >> alert
