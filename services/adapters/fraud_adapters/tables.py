"""The tables as SQLAlchemy sees them; the migrations in `db_init` make them, a test proves both equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BIGINT,
    BOOLEAN,
    CHAR,
    INTEGER,
    NUMERIC,
    SMALLINT,
    VARCHAR,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, INTERVAL, UUID

from fraud_adapters.table_columns import IDENTIFIER as _ID
from fraud_adapters.table_columns import JSON as _JSON
from fraud_adapters.table_columns import MOMENT as _MOMENT
from fraud_adapters.table_columns import NOW as _NOW
from fraud_adapters.table_columns import number as _number
from fraud_adapters.table_columns import required as _required
from fraud_adapters.table_columns import said_about as _said_about

metadata: Final = MetaData()

transactions: Final = Table(
    "transactions",
    metadata,
    Column("transaction_id", _ID, primary_key=True),
    Column("time", NUMERIC(10, 2)),
    *(Column(f"v{number}", NUMERIC(10, 6)) for number in range(1, 29)),
    Column("amount", NUMERIC(15, 2)),
    Column("class", INTEGER),
    _required("source", VARCHAR(50)),
    _required("ingestion_timestamp", _MOMENT, server_default=_NOW),
    _required("event_time", _MOMENT),
    _required("contract", VARCHAR(50)),
    Column("card_id", VARCHAR(64)),
    Column("merchant_id", VARCHAR(64)),
    Column("attributes", _JSON),
    Column("class_implied", BOOLEAN),
    Index("transactions_event_time", "event_time"),
    Index("transactions_ingestion_timestamp", "ingestion_timestamp"),
    Index(
        "transactions_silent",
        "event_time",
        postgresql_where=text("class IS NULL AND class_implied IS NULL"),
    ),
    Index("transactions_card", "card_id", "event_time", postgresql_where=text("card_id IS NOT NULL")),
)

predictions: Final = Table(
    "predictions",
    metadata,
    _number("prediction_id"),
    _required("transaction_id", _ID, ForeignKey("transactions.transaction_id")),
    *_said_about(feature_vector_nullable=False, role="champion"),
    _required("deciding", BOOLEAN),
    Column("reasons", _JSON),
    _required("rules_fired", ARRAY(Text), server_default=text("'{}'")),
    Index("predictions_deciding", "transaction_id", unique=True, postgresql_where=text("deciding")),
    Index(
        *("predictions_run", "run_id", "role", "transaction_id"),
        unique=True,
        postgresql_where=text("run_id IS NOT NULL"),
    ),
    Index("predictions_prediction_time", "prediction_time"),
)

alert_outbox: Final = Table(
    "alert_outbox",
    metadata,
    Column("transaction_id", _ID, ForeignKey("transactions.transaction_id"), primary_key=True),
    _required("created_at", _MOMENT, server_default=_NOW),
    Index("alert_outbox_created_at", "created_at", "transaction_id"),
)

shadow_predictions: Final = Table(
    "shadow_predictions",
    metadata,
    _number("prediction_id"),
    _required("transaction_id", _ID),
    *_said_about(feature_vector_nullable=True, role="shadow"),
    Index("shadow_predictions_once", "transaction_id", "model_version", unique=True),
    Index("shadow_predictions_prediction_time", "prediction_time"),
)

label_sources: Final = Table(
    "label_sources",
    metadata,
    Column("source", VARCHAR(20), primary_key=True),
    _required("precedence", INTEGER),
    _required("maturity", INTERVAL),
)

labels: Final = Table(
    "labels",
    metadata,
    Column("label_id", UUID, primary_key=True),
    _required("transaction_id", _ID),
    _required("label", SMALLINT),
    _required("source", VARCHAR(20), ForeignKey("label_sources.source")),
    _required("reported_at", _MOMENT),
    _required("matures_at", _MOMENT),
    _required("received_at", _MOMENT, server_default=_NOW),
    Index("labels_transaction", "transaction_id"),
    Index("labels_reported_at", "reported_at"),
)

labels_ahead: Final = Table(
    "labels_ahead",
    metadata,
    Column("label_id", UUID, primary_key=True),
    _required("transaction_id", _ID),
    _required("reported_at", _MOMENT),
    Index("labels_ahead_reported_at", "reported_at"),
)

simulated_labels: Final = Table(
    "simulated_labels",
    metadata,
    Column("transaction_id", _ID, primary_key=True),
    _required("label", SMALLINT),
    _required("due_at", _MOMENT),
    Column("sent_at", _MOMENT),
    Index("simulated_labels_due", "due_at", postgresql_where=text("sent_at IS NULL")),
)

simulations: Final = Table(
    "simulations",
    metadata,
    Column("population", VARCHAR(64), primary_key=True),
    _required("parameters", _JSON),
    _required("optimum", _JSON),
    _required("created_at", _MOMENT, server_default=_NOW),
)

stream_offsets: Final = Table(
    "stream_offsets",
    metadata,
    Column("topic", VARCHAR(249), primary_key=True),
    Column("partition", INTEGER, primary_key=True, autoincrement=False),
    _required("topic_id", VARCHAR(40)),
    _required("next_offset", BIGINT),
    _required("updated_at", _MOMENT, server_default=_NOW),
)

dead_letters: Final = Table(
    "dead_letters",
    metadata,
    _number("id"),
    _required("topic", VARCHAR(249)),
    _required("topic_id", VARCHAR(40)),
    _required("partition", INTEGER),
    _required("record_offset", BIGINT),
    Column("record_key", BYTEA),
    Column("record_timestamp_ms", BIGINT),
    Column("payload", BYTEA),
    _required("payload_bytes", INTEGER),
    _required("reason", VARCHAR(40)),
    Column("detail", Text),
    _required("created_at", _MOMENT, server_default=_NOW),
    Column("redriven_from", Text),
    Column("redriven_at", _MOMENT),
    UniqueConstraint("topic", "topic_id", "partition", "record_offset", name="dead_letters_once"),
    Index("dead_letters_created_at", "created_at"),
)

model_versions: Final = Table(
    "model_versions",
    metadata,
    Column("name", VARCHAR(64), primary_key=True),
    Column("version", VARCHAR(20), primary_key=True),
    Column("mlflow_run_id", VARCHAR(64)),
    _required("contract", VARCHAR(50)),
    _required("digest", CHAR(64)),
    _required("gate_policy", VARCHAR(50)),
    _required("gate_passed", BOOLEAN),
    _required("gate_outcome", _JSON),
    _required("metrics", _JSON),
    _required("threshold", DOUBLE_PRECISION),
    _required("block_threshold", DOUBLE_PRECISION),
    Column("data_from", _MOMENT),
    Column("data_to", _MOMENT),
    _required("created_at", _MOMENT, server_default=_NOW),
)

drift_metrics: Final = Table(
    "drift_metrics",
    metadata,
    _number("id"),
    _required("detected_at", _MOMENT, server_default=_NOW),
    Column("run_id", VARCHAR(100)),
    _required("contract", VARCHAR(50)),
    Column("model_version", VARCHAR(20)),
    _required("kind", VARCHAR(10)),
    Column("feature", VARCHAR(64)),
    _required("metric", VARCHAR(40)),
    Column("value", DOUBLE_PRECISION),
    Column("threshold", DOUBLE_PRECISION),
    _required("severity", VARCHAR(12)),
    Column("window_from", _MOMENT),
    Column("window_to", _MOMENT),
    Column("rows", BIGINT),
    Column("labels", BIGINT),
    Column("details", _JSON),
    Index("drift_metrics_detected_at", "detected_at"),
)

retraining_triggers: Final = Table(
    "retraining_triggers",
    metadata,
    _number("id"),
    _required("triggered_at", _MOMENT, server_default=_NOW),
    _required("source", VARCHAR(50)),
    _required("severity", VARCHAR(12)),
    _required("reason", Text),
    _required("state", VARCHAR(12), server_default="open"),
    Column("run_id", VARCHAR(100)),
    Column("handled_at", _MOMENT),
    Column("details", _JSON),
    Index("retraining_triggers_triggered_at", "triggered_at"),
)

airflow_task_metrics: Final = Table(
    "airflow_task_metrics",
    metadata,
    _number("id"),
    _required("dag_id", VARCHAR(250)),
    _required("task_id", VARCHAR(250)),
    _required("run_id", VARCHAR(250)),
    _required("try_number", INTEGER, server_default=text("1")),
    _required("state", VARCHAR(20)),
    Column("started_at", _MOMENT),
    Column("ended_at", _MOMENT),
    Column("duration_seconds", DOUBLE_PRECISION),
    _required("recorded_at", _MOMENT, server_default=_NOW),
    Column("details", _JSON),
    UniqueConstraint("dag_id", "task_id", "run_id", "try_number", name="airflow_task_metrics_once"),
)

performance_metrics: Final = Table(
    "performance_metrics",
    metadata,
    _number("id"),
    _required("measured_at", _MOMENT, server_default=_NOW),
    Column("run_id", VARCHAR(100)),
    _required("contract", VARCHAR(50)),
    Column("model_version", VARCHAR(20)),
    _required("metric", VARCHAR(40)),
    Column("value", DOUBLE_PRECISION),
    Column("window_from", _MOMENT),
    Column("window_to", _MOMENT),
    Column("rows", BIGINT),
    Column("labels", BIGINT),
    Column("details", _JSON),
    Index("performance_metrics_measured_at", "metric", "measured_at"),
)

quality_reports: Final = Table(
    "quality_reports",
    metadata,
    _number("id"),
    _required("checked_at", _MOMENT, server_default=_NOW),
    Column("run_id", VARCHAR(100)),
    _required("contract", VARCHAR(50)),
    _required("check_name", VARCHAR(64)),
    _required("status", VARCHAR(12)),
    Column("value", DOUBLE_PRECISION),
    Column("bound", DOUBLE_PRECISION),
    Column("window_from", _MOMENT),
    Column("window_to", _MOMENT),
    Column("rows", BIGINT),
    Column("details", _JSON),
    Index("quality_reports_checked_at", "checked_at"),
)

deployments: Final = Table(
    "deployments",
    metadata,
    _number("deployment_id"),
    _required("name", VARCHAR(64)),
    _required("version", VARCHAR(20)),
    Column("previous_version", VARCHAR(20)),
    _required("mode", VARCHAR(20)),
    _required("state", VARCHAR(20)),
    _required("traffic_percent", SMALLINT, server_default=text("0")),
    Column("salt", VARCHAR(64)),
    Column("run_id", VARCHAR(100)),
    Column("reason", Text),
    _required("started_at", _MOMENT, server_default=_NOW),
    Column("ended_at", _MOMENT),
    Index("deployments_running", "name", unique=True, postgresql_where=text("ended_at IS NULL")),
)

deployment_events: Final = Table(
    "deployment_events",
    metadata,
    _number("id"),
    _required("deployment_id", BIGINT, ForeignKey("deployments.deployment_id")),
    _required("occurred_at", _MOMENT, server_default=_NOW),
    _required("kind", VARCHAR(40)),
    Column("details", _JSON),
    Index("deployment_events_deployment", "deployment_id"),
)

alerts: Final = Table(
    "alerts",
    metadata,
    _number("id"),
    _required("raised_at", _MOMENT, server_default=_NOW),
    _required("source", VARCHAR(50)),
    _required("severity", VARCHAR(12)),
    _required("title", VARCHAR(200)),
    Column("details", _JSON),
    Column("dedupe_key", VARCHAR(200), unique=True),
    Column("sent_at", _MOMENT),
    Index("alerts_raised_at", "raised_at"),
)

cases: Final = Table(
    "cases",
    metadata,
    _number("case_id"),
    _required("transaction_id", _ID, ForeignKey("transactions.transaction_id"), unique=True),
    _required("state", VARCHAR(20), server_default="open"),
    Column("assignee", VARCHAR(100)),
    Column("notes", Text),
    Column("decision", SMALLINT),
    _required("opened_at", _MOMENT, server_default=_NOW),
    _required("updated_at", _MOMENT, server_default=_NOW),
    Column("closed_at", _MOMENT),
    Index("cases_state", "state", "opened_at"),
)

clients: Final = Table(
    "clients",
    metadata,
    Column("client_id", VARCHAR(64), primary_key=True),
    _required("secret_hash", Text),
    _required("scopes", ARRAY(Text), server_default=text("'{}'")),
    _required("active", BOOLEAN, server_default=text("true")),
    _required("created_at", _MOMENT, server_default=_NOW),
    Column("rotated_at", _MOMENT),
)

signing_keys: Final = Table(
    "signing_keys",
    metadata,
    Column("kid", VARCHAR(64), primary_key=True),
    _required("algorithm", VARCHAR(10)),
    _required("public_key", Text),
    _required("private_key_encrypted", Text),
    _required("created_at", _MOMENT, server_default=_NOW),
    Column("retired_at", _MOMENT),
    Column("expires_at", _MOMENT),
)

revoked_tokens: Final = Table(
    "revoked_tokens",
    metadata,
    Column("jti", VARCHAR(64), primary_key=True),
    _required("expires_at", _MOMENT),
    Index("revoked_tokens_expires_at", "expires_at"),
)

audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("entry_id", BIGINT, primary_key=True, autoincrement=False),
    _required("recorded_at", _MOMENT),
    _required("actor", Text),
    _required("db_role", Text),
    _required("action", Text),
    _required("subject", Text),
    _required("details", _JSON),
    _required("previous_hash", BYTEA),
    _required("entry_hash", BYTEA),
)

audit_head: Final = Table(
    "audit_head",
    metadata,
    Column("only_row", BOOLEAN, primary_key=True, server_default=text("true")),
    _required("entry_id", BIGINT),
    _required("entry_hash", BYTEA),
)
