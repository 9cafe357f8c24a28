"""Names that several parts of the platform share, and the environment variables that DAGs read.

Standard library only: Airflow's image contains this module and the table of services, but none of our
packages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from config import services

CONTRACT_DEFAULT: Final = "creditcard"
# Marks the default secrets of `.env.example`, with which a first start works; production refuses them.
DEVELOPMENT_SECRET_MARK: Final = "change-me"  # noqa: S105

# --- Kafka topics: every topic carries the same prefix -----------------------------------------
TOPIC_TRANSACTIONS: Final = "fraud-detection-transactions"  # what is to be scored
TOPIC_LABELS: Final = "fraud-detection-labels"  # labels, as they become known
TOPIC_ALERTS: Final = "fraud-detection-alerts"  # blocked and reviewed transactions
TOPIC_DLQ: Final = "fraud-detection-dlq"  # records that could not be processed
TOPICS: Final = (TOPIC_TRANSACTIONS, TOPIC_LABELS, TOPIC_ALERTS, TOPIC_DLQ)
GROUP_STREAMING: Final = "fraud-streaming"  # the group that scores; "-labels" is appended for labels

# --- Kafka headers ------------------------------------------------------------------------------
HEADER_SCHEMA: Final = "schema"  # "<contract>/<version>"; on the alerts topic ALERT_SCHEMA
ALERT_SCHEMA: Final = "alert/1"  # changes when a field of an alert is removed or changes its meaning
HEADER_TRACEPARENT: Final = "traceparent"  # W3C trace context
HEADER_REASON: Final = "reason"  # on the dead-letter topic: why
HEADER_DETAIL: Final = "detail"  # on the dead-letter topic: one sentence naming the field
HEADER_ORIGIN: Final = "origin"  # on the dead-letter topic: "<topic>/<partition>/<offset>"
HEADER_PAYLOAD_BYTES: Final = "payload_bytes"  # on the dead-letter topic: size of the whole record
HEADER_INCOMPLETE: Final = "incomplete"  # on the dead-letter topic: "true" where only the beginning is kept
HEADER_REDRIVEN: Final = "redriven"  # a dead letter put back: its origin
HEADER_ORIGIN_TIMESTAMP: Final = "origin_timestamp_ms"  # the timestamp of the original record

# --- MLflow -------------------------------------------------------------------------------------
ALIAS_CHAMPION: Final = "champion"  # decides
ALIAS_CHALLENGER: Final = "challenger"  # registered, passed its gate, not yet deciding
ALIAS_SHADOW: Final = "shadow"  # scores in parallel, never decides
ALIAS_PREVIOUS: Final = "previous"  # the champion before the current one: the target of a rollback
MODEL_ALIASES: Final = (ALIAS_CHAMPION, ALIAS_CHALLENGER, ALIAS_SHADOW, ALIAS_PREVIOUS)
MODEL_CARD: Final = "model_card/model_card.html"  # artefact of a training's run; its tag `model_card` says so
REGISTERED_MODEL_PREFIX: Final = "fraud-"  # registered model: "fraud-<contract>"

# --- Postgres roles: one log-in per service -----------------------------------------------------
ROLE_OWNER: Final = "fraud_user"  # owns the schema and runs the migrations
ROLE_READONLY: Final = services.ROLE_READONLY
SERVICE_ROLES: Final = services.roles()
DATABASE_MLFLOW: Final = "mlflow"  # MLflow's own database, and the role that owns it
DATABASE_AIRFLOW: Final = "airflow"  # Airflow's own database, and the role that owns it

# --- Object store -------------------------------------------------------------------------------
BUCKET_RUNS: Final = "fraud-runs"  # files that the steps of a run exchange: runs/<dag>/<run_id>/
BUCKET_MLFLOW: Final = "fraud-mlflow"  # model artefacts, written and read by the MLflow server
BUCKET_BROKER: Final = "fraud-broker"  # the embedded broker's log

# --- API scopes ---------------------------------------------------------------------------------
SCOPES: Final = ("predict", "read", "label", "train", "deploy", "admin")
API_CLIENTS: Final = tuple(services.clients())  # our own: API_CLIENT_SECRET_<NAME>

# --- Airflow -------------------------------------------------------------------------------------
DAGS_SUB_MINUTE: Final = (
    "00_transaction_producer",
    "00_realtime_streaming",
)  # their runs have the shortest retention
DAGS_REAL_TIME: Final = (*DAGS_SUB_MINUTE, "00_token_renewal")
DAG_DRIFT: Final = "02_drift_monitoring"
DAGS_MONITORING: Final = (DAG_DRIFT, "04_data_quality", "06_model_performance_tracking")
DAG_BATCH: Final = "00_batch_prediction"
DAG_TRAINING: Final = "01_training_pipeline"
DAG_CANARY: Final = "05_model_deployment_canary"
DAG_CANARY_HTTP: Final = "05_model_deployment_canary_http"
RELEASE_POLL_SECONDS: Final = 10  # between two questions whether a stage of a release is decided
RELEASE_STAGE_MINUTES: Final = 90  # the longest stage, with all extensions of its window
DAG_FEEDBACK: Final = "03_feedback_collection"
DAGS_TRAINING: Final = (DAG_TRAINING, DAG_FEEDBACK)
POOL_REAL_TIME: Final = "real_time"  # slots reserved for the real-time DAGs
AIRFLOW_USER: Final = "airflow"  # who logs in to the web UI
AIRFLOW_TRAIN_USER: Final = "train"  # the API's user, who may start and see runs of the training DAG alone
CLIENT_AIRFLOW: Final = "airflow"  # the API client the DAGs use
CONNECTION_API: Final = "fraud_api"  # the scoring API: host, client id and its secret
CONNECTION_SMTP: Final = "fraud_smtp"  # where alert e-mail goes out
CONNECTION_SLACK: Final = "fraud_slack"  # the webhook alerts are posted to
VARIABLE_API_TOKEN: Final = "fraud_api_token"  # noqa: S105 - its name; 00_token_renewal renews what it holds

# --- The environment of every process of the platform, however it is started ----------------------
PROCESS_ENVIRONMENT: Final = {
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",
    # By default MLflow's client and server send telemetry, and unpickle models from the registry.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # By default each numeric library starts one thread per core, although processes share the machine.
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",
}

# --- Variables that DAGs read; hosts default to Compose's service names --------------------------
_SECRETS: Final = "/run/secrets/"
_DEFAULTS: Final = {
    "APP_ENV": "development",
    "FRAUD_CONTRACT": CONTRACT_DEFAULT,
    "DB_HOST": "postgres",
    "DB_PORT": "5432",
    "DB_NAME": "fraud_detection",
    "DB_USER": ROLE_OWNER,
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "KAFKA_TOPIC": TOPIC_TRANSACTIONS,
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "MLFLOW_TRACKING_USERNAME": services.MLFLOW_RELEASE,
    "API_URL": "http://api:8000",
    "DATA_DRIFT_THRESHOLD": "0.3",
    "CONCEPT_DRIFT_THRESHOLD": "0.05",
    "MIN_RECALL_THRESHOLD": "0.80",
    "MIN_PRECISION_THRESHOLD": "0.75",
    "ALERT_EMAIL_RECIPIENTS": "",
    "ALERT_REPEAT_MINUTES": "60",
    "ALERT_QUIET_HOURS": "",
    "ALERT_TIMEZONE": "UTC",
}


def env_vars(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that DAGs read, from `environ` or the defaults."""
    values = {name: environ.get(name) or default for name, default in _DEFAULTS.items()}
    location = f"{values['DB_HOST']}:{values['DB_PORT']}/{quote(values['DB_NAME'], safe='')}"
    address = environ.get("DATABASE_URL") or f"postgresql://{ROLE_READONLY}@{location}"
    return values | {"DATABASE_URL": _with_readonly_password(address, environ)}


def _with_readonly_password(address: str, environ: Mapping[str, str]) -> str:
    """The read-only role's address with its password, if the environment holds the password.

    Compose cannot percent-encode a password, so address and password are separate variables.
    """
    parts = urlsplit(address)
    password = secret("DB_PASSWORD_READONLY", environ)
    if parts.username != ROLE_READONLY or parts.password is not None or not password:
        return address
    user, _, location = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{location}"))


def secret(name: str, environ: Mapping[str, str]) -> str:
    """The secret in a variable, or in the file that NAME_FILE names; "" if there is none."""
    return environ.get(name) or _file(environ.get(f"{name}_FILE", ""))


def _file(path: str) -> str:
    """The secret in a file; needed under `docker exec`, where the entrypoint has not read it."""
    with suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8").rstrip("\n") if path.startswith(_SECRETS) else ""
    return ""


ENV_VARS: Final[dict[str, str]] = env_vars(os.environ)
