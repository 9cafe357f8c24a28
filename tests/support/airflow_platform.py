"""Airflow with everything its DAGs use, on real servers whose names are not the defaults."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest
from cryptography.fernet import Fernet

from config import constants
from config.settings import KafkaSettings, ObjectStoreSettings
from fraud_adapters.kafka import ensure_topics
from fraud_adapters.objectstore import ObjectStore
from fraud_db.bootstrap import Passwords
from fraud_embedded.servers import airflow, broker, mlflow, objectstore
from fraud_embedded.servers.airflow_api import AirflowApi
from fraud_embedded.servers.stack import Stack
from tests.integration.training_job import small_configuration
from tests.support.airflow_metadata import ROOT, Metadata, prepared_airflow, running_postgres, start
from tests.support.api_server import (
    CLIENTS,
    ENCRYPTION_SECRET,
    ApiServer,
    ForkedApi,
    cache_model,
    record_version,
)
from tests.support.killable_servers import Server
from tests.support.mlflow_users import mlflow_login
from tests.support.servers import Database, cloned_database, migrated_template
from tests.support.stored_rows import CREDITCARD
from tests.support.stored_rows import run as run_sql
from tests.support.streaming_installation import read_all
from tests.support.waiting import eventually
from tests.support.webhook import Webhook, running_webhook

TOPIC: Final = "ledger-transactions"
# Allows for a busy machine with two cores that runs other workers' tests at the same time.
PATIENCE_S: Final = 240.0
# Adds a bundle of test DAGs to the platform's own; their limits are short enough for a test to wait for.
_BUNDLES: Final = [
    {"name": name, "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": kwargs}
    for name, kwargs in (("dags-folder", {}), ("halting", {"path": str(ROOT / "tests" / "dags" / "halting")}))
]
PUBLIC: Final = {
    "APP_ENV": "testing",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(_BUNDLES),
    # The files do not change, and parsing them takes a second of CPU each time.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    # Dead tasks are detected sooner than in operation, so that tests do not wait minutes for it.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}
# These are never due: their first runs would begin before there is anything to train on or to watch.
_UNSCHEDULED: Final = (*constants.DAGS_TRAINING, *constants.DAGS_MONITORING)
_ALL: Final = (*constants.DAGS_REAL_TIME, *_UNSCHEDULED)
_NEVER_DUE: Final = """
CREATE OR REPLACE FUNCTION never_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.next_dagrun_create_after := '2100-01-01Z';
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER never_due BEFORE INSERT OR UPDATE ON dag FOR EACH ROW
WHEN (NEW.dag_id IN ({dag_ids})) EXECUTE FUNCTION never_due();
"""
_TIMES: Final = {
    "dag_run": ("run_after", "queued_at", "start_date", "end_date", "updated_at"),
    "task_instance": ("queued_dttm", "start_date", "end_date", "updated_at"),
}


@dataclass(frozen=True)
class Run:
    """One run of a DAG, as the REST API shows it.

    What waits for a state reads it from Airflow's database instead: the API server needs 30 ms of CPU time
    for an answer, and it also serves the tasks that are waited for.
    """

    platform: AirflowPlatform
    dag_id: str
    run_id: str

    @property
    def api(self) -> AirflowApi:
        return self.platform.airflow

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{quote(self.run_id, safe='')}"

    @property
    def state(self) -> str:
        return str(self.api._call("GET", self.path)["state"])

    @property
    def tasks(self) -> dict[str, str]:
        return self.api.tasks(self.dag_id, self.run_id)

    def log(self, task_id: str, attempt: int = 1) -> str:
        return self.api.log(self.dag_id, self.run_id, task_id, attempt)

    def clear(self, *task_ids: str) -> None:
        """Run the tasks again, and everything downstream of them."""
        body: dict[str, Any] = {"dry_run": False, "only_failed": False, "include_downstream": True}
        body |= {"dag_run_id": self.run_id, "task_ids": list(task_ids)}
        self.api._call("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)

    def fail(self, task_id: str) -> None:
        """Mark a task as failed, as a person does in the web UI."""
        self.api._call("PATCH", f"{self.path}/taskInstances/{task_id}", {"new_state": "failed"})

    def wait_for(self, task_id: str, *states: str) -> None:
        """Return once the task is in one of these states."""
        statement = "SELECT state FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s"
        assert self._becomes(states, statement, self.dag_id, self.run_id, task_id), self.tasks

    def failed(self) -> None:
        """Wait until the run has failed."""
        assert self._ended() == "failed", self.tasks

    def succeeded(self) -> Run:
        """Wait until the run has succeeded; its failed tasks' logs are shown if it does not."""
        assert self._ended() == "success", (self.tasks, self._failed_logs())
        return self

    def _ended(self) -> str:
        """Wait until the run has ended; its state."""
        statement = "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s"
        assert self._becomes(("success", "failed"), statement, self.dag_id, self.run_id), self.tasks
        return self.state

    def _becomes(self, states: Sequence[str], statement: str, *values: str) -> bool:
        """Whether the state that the statement selects becomes one of these in time."""
        wanted = [(state,) for state in states]
        return eventually(
            lambda: any(row in wanted for row in self.platform.metadata.poll(statement, *values)), PATIENCE_S
        )

    def _failed_logs(self) -> dict[str, str]:
        return {name: self.log(name)[-2000:] for name, state in self.tasks.items() if state == "failed"}


@dataclass
class AirflowPlatform:
    """The running platform, with access to everything that the tests of the DAGs check."""

    database: Database
    kafka: KafkaSettings
    api: ApiServer
    broker: Server
    metadata: Metadata
    webhook: Webhook
    stack: Stack
    secrets: dict[str, str] = field(repr=False)
    processes: dict[str, Server]  # Airflow's, by name

    def __post_init__(self) -> None:
        self.airflow = AirflowApi(self.metadata.server, seconds=PATIENCE_S)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return run_sql(self.database.url("owner"), statement, *values)

    def sent(self) -> list[str]:
        """The ids on the transactions topic, in order."""
        return [str(record.key.decode()) for record in read_all(self.kafka, self.kafka.topic) if record.key]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> Run:
        body = {"logical_date": None, "conf": conf or {}}
        run = self.airflow._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        return Run(self, dag_id, str(run["dag_run_id"]))

    def run(self, dag_id: str) -> Run:
        """Start a run and wait for its success."""
        return self.trigger(dag_id).succeeded()

    def recent(self, dag_id: str, count: int) -> list[Run]:
        """The last successful triggered runs, newest first; triggers new ones if there are too few."""

        def successful() -> list[Run]:
            runs = self.airflow.runs(dag_id)
            good = [run for run in runs if (run.run_type, run.state) == ("manual", "success")]
            return [Run(self, dag_id, run.run_id) for run in good[:count]]

        while len(successful()) < count:
            self.run(dag_id)
        return successful()

    def start_schedules(self) -> None:
        """Let the real-time DAGs run by their schedules, which they do not before: each run costs the other
        tests 3 s of CPU time."""
        never_due(self.metadata, _UNSCHEDULED)
        dag_ids = list(constants.DAGS_REAL_TIME)
        self.metadata.rows(
            "UPDATE dag SET next_dagrun_create_after = now() WHERE dag_id = ANY(%s) RETURNING 1", dag_ids
        )
        for dag_id in dag_ids:
            assert self.airflow.pause(dag_id, paused=False)

    def stop_schedules(self) -> None:
        """Stop the schedules of the platform's own DAGs for good; triggered runs still start.

        Parsing a DAG file sets the next due time again, and Airflow parses the file of a failed run or of a
        dead task at any time, so a trigger in the database resets the due time.
        """
        dag_ids = list(_ALL)
        never_due(self.metadata, dag_ids)

        def quiet() -> bool:
            self.metadata.rows(
                "UPDATE dag SET next_dagrun_create_after = NULL WHERE dag_id = ANY(%s)", dag_ids
            )
            active = "SELECT count(*) FROM dag_run WHERE state IN ('queued', 'running')"
            return self.metadata.poll(active) == [(0,)]

        assert eventually(quiet, PATIENCE_S)
        # The second check sees a run that was being created during the first.
        assert eventually(quiet, PATIENCE_S)

    def token(self) -> str:
        """The API token that Airflow stores encrypted; it is added to the secrets that no log may contain."""
        name = constants.VARIABLE_API_TOKEN
        [(value, encrypted)] = self.metadata.rows(
            "SELECT val, is_encrypted FROM variable WHERE key = %s", name
        )
        assert encrypted
        token = Fernet(self.metadata.server.fernet_key).decrypt(value.encode()).decode()
        self.secrets[f"token {len(self.secrets)}"] = token
        return token

    def task_logs(self, run: Run) -> Path:
        return self.metadata.server.task_logs / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"

    def age(self, run: Run, by: timedelta) -> None:
        """Move the run and its logs that far into the past."""
        for table, columns in _TIMES.items():
            changes = ", ".join(f"{column} = {column} - %s" for column in columns)
            self.metadata.rows(
                f"UPDATE {table} SET {changes} WHERE run_id = %s RETURNING 1",
                *[by] * len(columns),
                run.run_id,
            )
        for path in self.task_logs(run).rglob("*.log"):
            at = path.stat().st_mtime - by.total_seconds()
            os.utime(path, (at, at))


def never_due(metadata: Metadata, dag_ids: Sequence[str]) -> None:
    """Keep these DAGs from being due, whatever sets their next run."""
    names = ", ".join(f"'{dag_id}'" for dag_id in dag_ids)
    metadata.rows(_NEVER_DUE.format(dag_ids=names))


@dataclass(frozen=True)
class PreparedPlatform:
    """Postgres, the object store and the webhook run, everything else is configured.

    Airflow's database has no tables yet.
    """

    stack: Stack
    passwords: Passwords
    database: Database
    kafka: KafkaSettings
    api: ApiServer
    webhook: Webhook
    metadata: Metadata


@contextmanager
def prepared_platform() -> Iterator[PreparedPlatform]:
    with running_postgres() as (stack, passwords, exit_stack):
        _start_object_store(stack, exit_stack)
        template = migrated_template(stack.postgres, passwords)
        database = exit_stack.enter_context(cloned_database(template, "ledger"))
        kafka = KafkaSettings(kafka_bootstrap_servers=stack.broker.bootstrap, kafka_topic=TOPIC)
        api = _api(stack, database, kafka)
        webhook = exit_stack.enter_context(running_webhook())
        metadata = Metadata(_airflow(stack, passwords, database, kafka, api, webhook=webhook))
        api.extra |= {
            "AIRFLOW_API_URL": metadata.server.url,
            "AIRFLOW_TRAIN_PASSWORD": metadata.server.train_password,
        }
        yield PreparedPlatform(stack, passwords, database, kafka, api, webhook, metadata)


@contextmanager
def running_platform(prepared: PreparedPlatform) -> Iterator[AirflowPlatform]:
    """Start everything else; Airflow's database must have been initialised. No schedule starts a run."""
    stack, kafka, api, metadata = prepared.stack, prepared.kafka, prepared.api, prepared.metadata
    with ExitStack() as exit_stack:
        exit_stack.callback(metadata.close)
        broker.prepare(stack.broker)
        running_broker = start(broker.spec(stack.broker), exit_stack)
        ensure_topics(stack.broker.bootstrap, [kafka.topic], partitions=2)
        ensure_topics(stack.broker.bootstrap, [kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic])
        exit_stack.callback(api.stop)
        api.start(seconds=PATIENCE_S)
        never_due(metadata, _ALL)
        processes = _start_airflow(metadata, exit_stack)
        secrets = _secrets(stack, prepared.passwords, metadata)
        yield AirflowPlatform(
            *(prepared.database, kafka, api, running_broker, metadata, prepared.webhook, stack),
            secrets=secrets,
            processes=processes,
        )


def ensure_buckets(stack: Stack) -> None:
    """Create the buckets that jobs and MLflow use, as the administrator; jobs may not."""
    administrator = ObjectStoreSettings.model_validate(
        {
            "s3_endpoint_url": stack.objectstore.endpoint_url,
            "aws_access_key_id": stack.objectstore.access_key,
            "aws_secret_access_key": stack.objectstore.secret_key,
        }
    )
    for bucket in (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW):
        ObjectStore(administrator, bucket).ensure_bucket()


@contextmanager
def running_mlflow(stack: Stack) -> Iterator[str]:
    """MLflow and the buckets of a training; gives MLflow's address. The object store must run."""
    ensure_buckets(stack)
    with ExitStack() as exit_stack:
        mlflow.prepare(stack.mlflow)
        start(mlflow.spec(stack.mlflow), exit_stack, PATIENCE_S)
        yield stack.mlflow.tracking_uri


def _start_object_store(stack: Stack, exit_stack: ExitStack) -> None:
    objectstore.prepare(stack.objectstore)
    exit_stack.callback(objectstore.remove_sockets, stack.objectstore.internal_ports)
    start(objectstore.spec(stack.objectstore), exit_stack)


def _start_airflow(metadata: Metadata, exit_stack: ExitStack) -> dict[str, Server]:
    """Start all of Airflow's processes, as the demo does."""
    specs = {spec.name: spec for spec in airflow.specs(metadata.server)}
    with ThreadPoolExecutor() as executor:
        started = {
            name: executor.submit(start, specs[name], exit_stack, PATIENCE_S) for name in airflow.NAMES
        }
        return {name: one.result() for name, one in started.items()}


def _api(stack: Stack, database: Database, kafka: KafkaSettings) -> ApiServer:
    folder = stack.broker.place.with_name("api")
    version = cache_model(folder / "models", CREDITCARD, "7")
    record_version(database.url("owner"), CREDITCARD, "7", version.digest())
    addresses = {"KAFKA_BOOTSTRAP_SERVERS": stack.broker.bootstrap, "KAFKA_TOPIC": kafka.topic}
    return ForkedApi(database.url("api"), folder / "models", folder / "api.log", extra=addresses)


def _airflow(
    stack: Stack,
    passwords: Passwords,
    database: Database,
    kafka: KafkaSettings,
    api: ApiServer,
    *,
    webhook: Webhook,
) -> Any:
    setup = {
        "API_URL": api.url,
        "API_CLIENT_ID": constants.CLIENT_AIRFLOW,
        "API_CLIENT_SECRET": CLIENTS["airflow"],
        "SLACK_WEBHOOK_URL": webhook.url,
    }
    public = {"KAFKA_BOOTSTRAP_SERVERS": stack.broker.bootstrap, "KAFKA_TOPIC": kafka.topic}
    public |= {"KAFKA_GROUP": kafka.group, "API_URL": api.url}
    recorded = urlsplit(database.url("watch"))
    public |= {"DB_HOST": "127.0.0.1", "DB_PORT": str(recorded.port), "DB_NAME": recorded.path.lstrip("/")}
    store = stack.objectstore.bucket_environment(constants.BUCKET_RUNS)
    public |= {
        "MLFLOW_TRACKING_URI": stack.mlflow.tracking_uri,
        "S3_ENDPOINT_URL": stack.objectstore.endpoint_url,
        "FRAUD_CONFIG_DIR": str(small_configuration(stack.broker.place.with_name("config"))),
    }
    environments = {
        "producer": {"DATABASE_URL": database.url("producer")},
        "feedback": {"DATABASE_URL": database.url("feedback")},
        "streaming": {
            "DATABASE_URL": database.url("streaming"),
            "API_CLIENT_SECRET": CLIENTS["streaming"],
        },
        **{
            service: {
                "DATABASE_URL": database.url(service),
                **mlflow_login(service, stack.mlflow.users),
                **store,
            }
            for service in ("trainer", "batch", "monitor")
        },
        "rollout": {
            "DATABASE_URL": database.url("rollout"),
            "API_CLIENT_SECRET": CLIENTS["rollout"],
            **mlflow_login("rollout", stack.mlflow.users),
            **store,
        },
    }
    return prepared_airflow(
        stack,
        passwords,
        public=PUBLIC | public,
        watch_password=recorded.password,
        jobs=airflow.job_variables(sys.executable, ROOT, stack.broker.place.parent, environments),
        setup=setup,
    )


def _secrets(stack: Stack, passwords: Passwords, metadata: Metadata) -> dict[str, str]:
    """The secrets that no log may contain, by name."""
    server = metadata.server
    return {
        "Postgres' superuser": stack.postgres.password,
        "the database's owner": passwords.owner,
        "Airflow's database": passwords.airflow,
        **{f"the role {service}": password for service, password in passwords.services.items()},
        **{f"the client {client}": secret for client, secret in CLIENTS.items()},
        "the API's keys": ENCRYPTION_SECRET,
        "the store's key": stack.objectstore.secret_key,
        "Airflow's key": server.fernet_key,
        "tokens of tasks": server.jwt_secret,
        "sessions": server.secret_key,
        "the log-in": server.password,
        "the log-in of the API": server.train_password,
        "the webhook": server.setup["SLACK_WEBHOOK_URL"],
        **{f"the variable {name}": value for name, value in stack.mlflow.users.items()},
    }


@pytest.fixture(scope="package")
def platform() -> Iterator[AirflowPlatform]:
    """The platform for all tests of a folder that one worker runs."""
    with prepared_platform() as prepared:
        done = prepared.metadata.initialise()
        assert done.returncode == 0, done.stderr[-3000:]
        with running_platform(prepared) as running:
            yield running
