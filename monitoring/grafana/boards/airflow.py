"""Airflow: does what is scheduled run, succeed, and take as long as usual?"""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import Board, Named, Promql, Question, View, above, prom, sql

_TASKS: Final = "FROM airflow_task_metrics WHERE $__timeFilter(ended_at)"
_STATES: Final = (
    Named("success", "success", "green"),
    Named("failed", "failed", "red"),
    Named("up_for_retry", "up for retry", "orange"),
    Named("upstream_failed", "upstream failed", "orange"),
    Named("skipped", "skipped", "text"),
)

AIRFLOW: Final = Board(
    "airflow",
    "Fraud detection – Airflow",
    "Does what is scheduled run, succeed, and take as long as usual?",
    (
        Question(
            "Overdue",
            "Which DAG should have succeeded by now?",
            prom("count(fraud_airflow_overdue_seconds > 0) or vector(0)"),
            levels=above(None, 1),
            runbooks=("DagOverdue",),
        ),
        Question(
            "Queued",
            "How many tasks wait for a worker?",
            prom('sum(fraud_airflow_tasks{state="queued"})'),
            levels=above(5, 20),
            runbooks=("TasksQueued",),
        ),
        Question(
            "Age of the heartbeats",
            "Do scheduler, DAG processor and triggerer live?",
            prom("time() - fraud_airflow_heartbeat_timestamp_seconds", "{{job}}"),
            unit="s",
            levels=above(60, 120),
            runbooks=("AirflowHeartbeatMissing",),
            size=(8, 4),
        ),
        Question(
            "Age of the last look",
            "Would anybody notice that a DAG does not run?",
            prom("time() - fraud_airflow_looked_timestamp_seconds"),
            unit="s",
            levels=above(60, 120),
            runbooks=("DagsUnwatched",),
        ),
        Question(
            "Task runs recorded",
            "Does anything run? Tries a second that ended.",
            prom("rate(fraud_airflow_task_runs_recorded_total[5m])"),
            unit="ops",
        ),
        Question(
            "Tasks by state",
            "How deep is the queue?",
            prom("sum by (state) (fraud_airflow_tasks)", "{{state}}"),
            View.LINES,
            runbooks=("TasksQueued",),
        ),
        Question(
            "Overdue by DAG",
            "How late is each DAG? Below zero there is time left.",
            prom("max by (dag) (fraud_airflow_overdue_seconds)", "{{dag}}"),
            View.LINES,
            unit="s",
            levels=above(None, 0),
            runbooks=("DagOverdue",),
        ),
        Question(
            "Running and usual duration",
            "Does a run take longer than it should?",
            (
                Promql("max by (dag) (fraud_airflow_run_seconds)", "{{dag}} now"),
                Promql("max by (dag) (fraud_airflow_run_usual_seconds)", "{{dag}} usually"),
            ),
            View.LINES,
            unit="s",
            runbooks=("DagSlow",),
        ),
        Question(
            "Success by DAG",
            "Which share of the tries that ended in an hour succeeded?",
            sql(f"""
                SELECT date_trunc('hour', ended_at) AS time, dag_id AS metric,
                    avg((state IN ('success', 'skipped'))::int)::float8 AS value
                {_TASKS} GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Duration by DAG",
            "Do runs become slower? The median of each hour, from the first start to the last end.",
            sql(f"""
                SELECT date_trunc('hour', ended) AS time, dag_id AS metric,
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ended - began)) AS value
                FROM (SELECT dag_id, run_id, min(started_at) AS began, max(ended_at) AS ended {_TASKS}
                      AND state <> 'skipped' GROUP BY 1, 2) runs
                WHERE began IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.LINES,
            unit="s",
        ),
        Question(
            "Waiting for a worker",
            "Are there enough workers? p95 of the time in the queue.",
            sql(f"""
                SELECT date_trunc('hour', ended_at) AS time, dag_id AS metric, percentile_cont(0.95)
                    WITHIN GROUP (ORDER BY (details ->> 'queued_seconds')::float8) AS value
                {_TASKS} AND details ->> 'queued_seconds' IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.LINES,
            unit="s",
            runbooks=("TasksQueued",),
        ),
        Question(
            "Where the time goes",
            "Which tasks take longest, and how often do they fail?",
            sql(f"""
                SELECT dag_id AS dag, task_id AS task, count(*) AS tries,
                    avg((state IN ('failed', 'up_for_retry'))::int)::float8 AS failed,
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) AS p50,
                    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) AS p95,
                    max(duration_seconds) AS longest, sum(duration_seconds) AS total
                {_TASKS} GROUP BY 1, 2 ORDER BY total DESC NULLS LAST LIMIT 50
            """),
            View.TABLE,
            size=(24, 10),
        ),
        Question(
            "What failed",
            "Which try failed, and in which run?",
            sql(f"""
                SELECT ended_at AS time, dag_id AS dag, task_id AS task, try_number AS try, state,
                    duration_seconds AS seconds, run_id AS run
                {_TASKS} AND state IN ('failed', 'up_for_retry', 'upstream_failed') ORDER BY 1 DESC LIMIT 200
            """),
            View.TABLE,
            names=_STATES,
            runbooks=("DagOverdue",),
        ),
    ),
    since="now-24h",
    refresh="30s",
)
