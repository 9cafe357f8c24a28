"""The closed list of the metrics that our services export to Prometheus.

`docs/metrics.md` shows it (`python -m config.metrics` prints the table), and tests compare it with what each
service registers, what dashboards show and what rules read. A label's values must come from a closed set: an
enum, the routes, the DAGs, the features of a contract; never an id, an address or a text. Standard library
only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `kind` is counter, gauge or histogram; `services` export it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    services: tuple[str, ...]
    meaning: str


METRICS: Final = (
    Metric(
        "fraud_api_requests_total",
        "counter",
        ("method", "route", "status"),
        ("api",),
        "requests answered; status 499: the client left before the end of its body, or sent malformed chunks",
    ),
    Metric(
        "fraud_api_request_seconds",
        "histogram",
        ("route",),
        ("api",),
        "from the request's head to its answer, without the time in which its body was awaited",
    ),
    Metric("fraud_api_scored_total", "counter", ("route", "decision"), ("api",), "transactions scored"),
    Metric("fraud_api_replayed_total", "counter", (), ("api",), "transactions that were already decided"),
    Metric(
        "fraud_api_model_info",
        "gauge",
        ("version", "digest", "gate"),
        ("api",),
        "the champion that is served; none: not ready",
    ),
    Metric(
        "fraud_api_model_refused_total", "counter", ("reason",), ("api",), "model versions not taken over"
    ),
    Metric("fraud_api_canary_percent", "gauge", (), ("api",), "the share of cards that a canary serves"),
    Metric(
        "fraud_api_canary_failures_total",
        "counter",
        (),
        ("api",),
        "calls in which the champion had to decide for a canary",
    ),
    Metric("fraud_api_shadow_loaded", "gauge", (), ("api",), "1 while a shadow scores"),
    Metric(
        "fraud_api_shadow_total",
        "counter",
        ("outcome",),
        ("api",),
        "transactions that a shadow has scored, left out because it was behind (shed), or failed at",
    ),
    Metric(
        "fraud_api_writer_rows", "histogram", (), ("api",), "transactions stored in one database transaction"
    ),
    Metric("fraud_api_writer_waiting", "gauge", (), ("api",), "requests waiting to be stored"),
    Metric(
        "fraud_stream_lag_records",
        "gauge",
        ("topic", "partition"),
        ("follower",),
        "records between the stored position and the end, of every partition, whoever holds it",
    ),
    Metric(
        "fraud_stream_position",
        "gauge",
        ("topic", "partition"),
        ("follower",),
        "the stored position, likewise",
    ),
    Metric(
        "fraud_stream_joined",
        "gauge",
        ("topic",),
        ("follower",),
        "1 while the consumer group has answered the latest join",
    ),
    Metric(
        "fraud_stream_stalled_holders_ended_total",
        "counter",
        ("topic",),
        ("follower",),
        "other consumers that held partitions and stood still, and lost their locks",
    ),
    Metric("fraud_stream_partitions", "gauge", ("topic",), ("follower",), "partitions held"),
    Metric(
        "fraud_stream_records_total",
        "counter",
        ("topic", "outcome"),
        ("follower",),
        "records committed: stored, replayed, dead_lettered",
    ),
    Metric(
        "fraud_stream_dead_letters_total",
        "counter",
        ("topic", "reason"),
        ("follower",),
        "records that could not be processed ([reasons](dead-letters.md))",
    ),
    Metric(
        "fraud_stream_batch_seconds",
        "histogram",
        ("topic",),
        ("follower",),
        "from reading a batch to its commit",
    ),
    Metric("fraud_stream_batch_rows", "histogram", ("topic",), ("follower",), "records in a batch"),
    Metric(
        "fraud_stream_latency_seconds",
        "histogram",
        ("topic",),
        ("follower",),
        "from a record's timestamp to its commit; of each batch the oldest record",
    ),
    Metric(
        "fraud_stream_retries_total",
        "counter",
        ("topic", "cause"),
        ("follower",),
        "times everything was read again after a failure",
    ),
    Metric(
        "fraud_stream_backpressure_total",
        "counter",
        ("topic",),
        ("follower",),
        "times reading was paused because deciding or storing could not keep up",
    ),
    Metric("fraud_stream_alerts_published_total", "counter", (), ("follower",), "alerts published"),
    Metric(
        "fraud_stream_classes_refreshed_total",
        "counter",
        (),
        ("follower",),
        "transactions judged because time has passed",
    ),
    Metric(
        "fraud_airflow_overdue_seconds",
        "gauge",
        ("dag",),
        ("airflow",),
        "since when a run of an unpaused DAG should have succeeded; below zero: there is time left",
    ),
    Metric(
        "fraud_airflow_looked_timestamp_seconds",
        "gauge",
        (),
        ("airflow",),
        "when Airflow's database was last read",
    ),
    Metric(
        "fraud_airflow_run_seconds",
        "gauge",
        ("dag",),
        ("airflow",),
        "how long the oldest running run has run; 0: none runs",
    ),
    Metric(
        "fraud_airflow_run_usual_seconds",
        "gauge",
        ("dag",),
        ("airflow",),
        "the median duration of the latest 20 runs that succeeded, if five did",
    ),
    Metric(
        "fraud_airflow_tasks",
        "gauge",
        ("state",),
        ("airflow",),
        "tasks that are scheduled, queued, running, or wait for a retry",
    ),
    Metric(
        "fraud_airflow_heartbeat_timestamp_seconds",
        "gauge",
        ("job",),
        ("airflow",),
        "the latest heartbeat of scheduler, DAG processor and triggerer",
    ),
    Metric(
        "fraud_airflow_task_runs_recorded_total",
        "counter",
        (),
        ("airflow",),
        "task runs copied into `airflow_task_metrics`",
    ),
    Metric(
        "fraud_alert_undelivered",
        "gauge",
        ("severity",),
        ("airflow",),
        "open incidents whose latest message not every channel took",
    ),
    Metric(
        "fraud_alert_waiting",
        "gauge",
        ("severity",),
        ("airflow",),
        "open incidents with a message still to be sent, in quiet hours or after a failure",
    ),
    Metric(
        "fraud_alert_heartbeat_timestamp_seconds",
        "gauge",
        (),
        ("airflow",),
        "the latest sign of life of Prometheus and Alertmanager; 0: none yet",
    ),
    Metric(
        "fraud_platform_read_timestamp_seconds",
        "gauge",
        (),
        ("airflow",),
        "when the platform's database was last read and alerts were recorded",
    ),
    Metric(
        "fraud_alerts_raised_total", "counter", ("severity",), ("airflow",), "incidents in the table `alerts`"
    ),
    Metric(
        "fraud_alerts_open", "gauge", ("severity",), ("airflow",), "incidents there that are not resolved"
    ),
    Metric(
        "fraud_alert_outbox_waiting",
        "gauge",
        (),
        ("airflow",),
        "blocked and reviewed transactions not yet announced",
    ),
    Metric("fraud_dead_letters_stored", "gauge", (), ("airflow",), "records in `dead_letters`"),
    Metric(
        "fraud_model_versions",
        "gauge",
        ("gate",),
        ("airflow",),
        "model versions by the outcome of their gate",
    ),
    Metric(
        "fraud_retraining_triggers_open",
        "gauge",
        (),
        ("airflow",),
        "orders to retrain that no run has taken up",
    ),
    Metric(
        "fraud_drift_value",
        "gauge",
        ("contract", "kind", "feature", "metric"),
        ("airflow",),
        "the latest value of each drift measure, at most two days old",
    ),
    Metric(
        "fraud_drift_severity",
        "gauge",
        ("contract", "kind"),
        ("airflow",),
        "the worst of the latest measures: -1 insufficient, 0 none, 1 medium, 2 high, 3 critical",
    ),
    Metric(
        "fraud_drift_checked_timestamp_seconds",
        "gauge",
        ("contract",),
        ("airflow",),
        "when drift was last measured",
    ),
    Metric(
        "fraud_quality_status",
        "gauge",
        ("contract", "check"),
        ("airflow",),
        "the latest outcome: -1 insufficient, 0 passed, 1 warned, 2 failed",
    ),
    Metric(
        "fraud_quality_checked_timestamp_seconds",
        "gauge",
        ("contract",),
        ("airflow",),
        "when quality was last checked",
    ),
    Metric(
        "fraud_performance_value",
        "gauge",
        ("contract", "metric"),
        ("airflow",),
        "the latest value of each performance metric, at most two days old",
    ),
    Metric(
        "fraud_performance_measured_timestamp_seconds",
        "gauge",
        ("contract",),
        ("airflow",),
        "when performance was last measured",
    ),
    Metric("fraud_database_bytes", "gauge", (), ("airflow",), "the size of the platform's database"),
    Metric("fraud_database_connections", "gauge", (), ("airflow",), "connections to the Postgres server"),
    Metric("fraud_database_connections_max", "gauge", (), ("airflow",), "how many it allows"),
    Metric(
        "fraud_database_deadlocks_total", "counter", (), ("airflow",), "deadlocks in the platform's database"
    ),
    Metric(
        "fraud_api_dependency_up",
        "gauge",
        ("part",),
        ("api",),
        "1 if the part answered the latest check: broker, topic, database, registry",
    ),
    Metric(
        "fraud_kafka_lag_records",
        "gauge",
        ("topic",),
        ("api",),
        "records between the stored positions and the end of the topic, whoever reads it",
    ),
    Metric(
        "fraud_audit_requests_total",
        "counter",
        ("method", "route", "status"),
        ("audit",),
        "requests that the analysts' web app answered",
    ),
    Metric(
        "fraud_audit_request_seconds", "histogram", ("route",), ("audit",), "from a request to its answer"
    ),
    Metric(
        "fraud_audit_logins_total", "counter", ("outcome",), ("audit",), "log-ins: ok, wrong password, locked"
    ),
    Metric("fraud_audit_labels_total", "counter", ("label",), ("audit",), "labels that people stored"),
    Metric("fraud_audit_cases_opened_total", "counter", (), ("audit",), "cases that this instance opened"),
    Metric("fraud_audit_database_up", "gauge", (), ("audit",), "1 if the database answered last"),
    Metric("process_cpu_seconds_total", "counter", (), ("api", "follower", "audit"), "processor time used"),
    Metric("process_resident_memory_bytes", "gauge", (), ("api", "follower", "audit"), "memory in use"),
    Metric("process_virtual_memory_bytes", "gauge", (), ("api", "follower", "audit"), "address space"),
    Metric(
        "process_start_time_seconds", "gauge", (), ("api", "follower", "audit"), "when the process started"
    ),
    Metric("process_open_fds", "gauge", (), ("api", "follower", "audit"), "open files and connections"),
    Metric("process_max_fds", "gauge", (), ("api", "follower", "audit"), "how many may be open"),
)
BY_NAME: Final = {metric.name: metric for metric in METRICS}


def table() -> Iterator[str]:
    """The lines of the table in the documentation."""
    yield "| metric | type | labels | service | meaning |"
    yield "|---|---|---|---|---|"
    for metric in METRICS:
        labels, services = ", ".join(metric.labels), ", ".join(metric.services)
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {services} | {metric.meaning} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
