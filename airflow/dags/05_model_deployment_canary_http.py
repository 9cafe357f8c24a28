"""# Releases a model version over HTTP: on a replica of its own, by the gateway's weights

Checks a version, tests its replica's endpoints, lets it score every request in parallel as a shadow, and
gives it 10 %, then 50 % of the requests if what it shows speaks for it. In the end it is champion, or the
previous champion answers everything again: *rolled back* on evidence against it, *withdrawn* where evidence
stays too thin or a step failed. The API judges by its own counts and by the metrics of both replicas,
whatever this run does. See `docs/DAG05_CANARY_DEPLOYMENT_GUIDE.md`.

## When it fails

The previous champion answers. `rollback_to_previous` runs whatever became of the steps before; should it
fail, the API withdraws the release by itself. The failed task's log has the reason. Then start a new run.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from config.constants import DAG_CANARY_HTTP
from fraud_airflow import release
from fraud_airflow.defaults import dag_defaults
from operators.alert_operator import FraudDetectionAlertOperator

with DAG(
    DAG_CANARY_HTTP,
    description="Releases a model version on a replica of its own, by the gateway's weights",
    schedule=None,
    doc_md=__doc__,
    params=release.PARAMS,
    # Not paused: a person starts it, and a run of a paused DAG would wait for ever.
    **dag_defaults(
        ["deploy", "critical"],
        paused=False,
        task_timeout=timedelta(minutes=15),
        run_timeout=timedelta(hours=2),
        priority_weight=40,
    ),
):
    validate = release.step(release.VALIDATE, "validate", "--version={{ params.version }}", "--mode=http")
    check_health = release.step("check_health", "check-health")
    test_endpoints = release.step("test_endpoints", "test-endpoints")
    shadow_mode = release.step("shadow_mode", "shadow")
    monitor_shadow = release.waiting("monitor_shadow")
    compare_shadow = release.judged("compare_shadow", "split_traffic")
    split_traffic = release.traffic("split_traffic", "canary_percent")
    monitor = release.waiting("monitor_metrics")
    compare = release.judged("compare_metrics", "widen_traffic")
    widen_traffic = release.traffic("widen_traffic", "widened_percent")
    monitor_50 = release.waiting("monitor_metrics_50")
    compare_50 = release.judged("compare_metrics_50", "promote_to_production")
    promote = release.step("promote_to_production", "promote")
    # A teardown: it runs whatever became of the others, and does not hide that one of them failed.
    rollback = release.step(release.ROLL_BACK, "rollback").as_teardown(on_failure_fail_dagrun=False)
    alert = FraudDetectionAlertOperator(task_id="send_rollback_alert", **release.ALERT)
    validate >> check_health >> test_endpoints >> shadow_mode >> monitor_shadow >> compare_shadow
    compare_shadow >> split_traffic >> monitor >> compare >> widen_traffic >> monitor_50 >> compare_50
    compare_50 >> promote
    [compare_shadow, compare, compare_50, promote] >> rollback >> alert
