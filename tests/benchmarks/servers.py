"""The servers of a benchmark: the embedded ones, durable as in operation, and the scoring API."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg2
import xgboost

from config import constants
from config.settings import PlatformSettings, parameters
from fraud_adapters.models.onnx_export import to_onnx
from fraud_adapters.objectstore import ObjectStore
from fraud_core.contract import Contract
from fraud_core.manifest import Calibration, Manifest
from fraud_db.bootstrap import Passwords, bootstrap, clone_database
from fraud_db.upgrade import upgrade
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import ProcessSpec, Running
from fraud_embedded.servers import broker, mlflow, objectstore, postgres
from fraud_embedded.servers.stack import Ports, Stack, build
from tests.support import apache_kafka
from tests.support.api_server import ApiServer, record_version
from tests.support.mlflow_users import mlflow_login
from tests.support.server_fixtures import bucket_settings
from tests.support.servers import (
    Database,
    configured_stack,
    migrated_template,
    random_passwords,
    random_secrets,
)
from tests.support.small_model import model_manifest

TEMPLATE = "benchmark"
VERSION = "1"
TANSU = "tansu"
APACHE = "apache"


@dataclass
class Servers:
    """Everything that runs, and the process id of each part."""

    stack: Stack
    passwords: Passwords
    api: ApiServer
    model: Path
    pids: dict[str, int]
    bootstrap: str  # of the broker

    def database(self, suffix: int | str) -> str:
        """URL of the consumer's role on a fresh, empty database."""
        name = f"{TEMPLATE}_{suffix}"
        clone_database(self.stack.postgres.url(), TEMPLATE, name, constants.ROLE_OWNER)
        return self.stack.postgres.url(
            constants.SERVICE_ROLES["streaming"], self.passwords.services["streaming"], name
        )


@contextmanager
def running(contract: Contract, *postgres_settings: str, kafka: str = TANSU) -> Iterator[Servers]:
    """Start everything; at the end, also that by SIGTERM, nothing is left of it.

    Args:
        postgres_settings: further lines for `postgresql.conf`.
        kafka: `tansu`, or `apache` for Apache Kafka.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    base = Path(tempfile.mkdtemp(prefix="fraud-bench-"))
    base.chmod(0o711)  # the database's account must get through
    free = free_ports(4 + objectstore.INTERNAL_PORTS)
    ports = Ports(free[0], free[1], free[2], free[3], tuple(free[4:]))
    stack = build(base, base, ports, random_secrets(), durable=True)
    passwords = random_passwords(stack)
    try:
        with ExitStack() as until_the_end:
            pids = {}
            objectstore.prepare(stack.objectstore)
            pids["object store"] = _start(objectstore.spec(stack.objectstore), until_the_end)
            postgres.prepare(stack.postgres)
            with (stack.postgres.data / "postgresql.conf").open("a") as settings:
                settings.writelines(f"{line}\n" for line in postgres_settings)
            pids["postgres"] = _start(postgres.spec(stack.postgres), until_the_end)
            brokers, bootstrap_servers = _broker(stack, base, kafka)
            pids["broker"] = _start(brokers, until_the_end)
            api = _api(stack, passwords, base, contract)
            until_the_end.callback(api.stop)
            api.start()
            assert api.process is not None
            pids["api"] = api.process.pid
            model = next((base / "models" / contract.registered_model).glob(f"{VERSION}-*"))
            yield Servers(stack, passwords, api, model, pids, bootstrap_servers)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def monitored() -> Iterator[tuple[Database, str, dict[str, str]]]:
    """What the monitor's jobs work on: a migrated template, the broker's address, the bucket's settings."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with configured_stack(durable=True) as stack, ExitStack() as until_the_end:
        until_the_end.callback(objectstore.remove_sockets, stack.objectstore.internal_ports)
        postgres.prepare(stack.postgres)
        objectstore.prepare(stack.objectstore)
        broker.prepare(stack.broker)
        for spec in (
            postgres.spec(stack.postgres),
            objectstore.spec(stack.objectstore),
            broker.spec(stack.broker),
        ):
            _start(spec, until_the_end)
        bucket = bucket_settings(stack.objectstore, constants.BUCKET_RUNS)
        ObjectStore(bucket, constants.BUCKET_RUNS).ensure_bucket()
        store = {
            "s3_endpoint_url": bucket.endpoint_url,
            "aws_access_key_id": bucket.aws_access_key_id,
            "aws_secret_access_key": bucket.aws_secret_access_key.get_secret_value(),
        }
        yield migrated_template(stack.postgres, random_passwords(stack)), stack.broker.bootstrap, store


def _broker(stack: Stack, base: Path, kafka: str) -> tuple[ProcessSpec, str]:
    if kafka == TANSU:
        broker.prepare(stack.broker)
        return broker.spec(stack.broker), stack.broker.bootstrap
    jars, java = apache_kafka.fetch_jars(), apache_kafka.find_java()
    port, controller_port = free_ports(2)
    node = apache_kafka.ApacheKafka(base / "apache", port, controller_port, jars=jars, java=java)
    apache_kafka.prepare(node)
    return apache_kafka.spec(node), node.bootstrap


def _start(spec: ProcessSpec, until_the_end: ExitStack) -> int:
    server = Running(spec, spec.cwd.parent / f"{spec.name}.log")
    until_the_end.callback(server.stop, 5)
    server.wait_ready(120)
    return server.pid


def start_registry(servers: Servers, until_the_end: ExitStack) -> None:
    """Start MLflow too; this process may then register versions and move aliases."""
    mlflow.prepare(servers.stack.mlflow)
    _start(mlflow.spec(servers.stack.mlflow), until_the_end)
    # The API gets log-ins of its own.
    os.environ |= servers.stack.mlflow.users
    os.environ |= mlflow_login("admin")


def _api(stack: Stack, passwords: Passwords, base: Path, contract: Contract) -> ApiServer:
    admin = stack.postgres.url()
    bootstrap(admin, passwords, database=TEMPLATE, owner=constants.ROLE_OWNER)
    owner = stack.postgres.url(constants.ROLE_OWNER, passwords.owner, TEMPLATE)
    upgrade(owner, parameters(PlatformSettings()).labels)
    clone_database(admin, TEMPLATE, "benchmark_api", constants.ROLE_OWNER)
    manifest = grow_model(base / "models" / contract.registered_model, contract)
    record_version(owner.replace(TEMPLATE, "benchmark_api"), contract, VERSION, manifest.digest())
    url = stack.postgres.url(constants.SERVICE_ROLES["api"], passwords.services["api"], "benchmark_api")
    return ApiServer(url, base / "models", base / "api.log", contract.name)


def grow_model(home: Path, contract: Contract, seed: int = 1) -> Manifest:
    """300 trees of depth 6, as large as a model in service, in the server's cache."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(20_000, len(contract.features))).astype(np.float32)
    labels = (rows[:, :6].sum(axis=1) + rng.normal(size=len(rows)) > 3.5).astype(np.int32)
    # On one thread: on a busy machine two wait for each other, 35 s instead of 3.
    settings = {"objective": "binary:logistic", "max_depth": 6, "nthread": 1, "base_score": 0.05}
    booster = xgboost.train(settings, xgboost.DMatrix(rows, labels), num_boost_round=300)
    contents = {"model.ubj": bytes(booster.save_raw("ubj")), "model.onnx": to_onnx(booster)}
    calibration = Calibration(slope=1.0, intercept=0.0)
    manifest = model_manifest(contract, contents, calibration, metrics={}, made_by="benchmark")
    directory = home / f"{VERSION}-{manifest.digest()[:16]}"
    directory.mkdir(parents=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    (directory / "manifest.json").write_bytes(manifest.to_json())
    (home / "champion").write_text(VERSION, encoding="ascii")
    return manifest


def vacuum(url: str) -> None:
    """Checkpoint, so that a run does not pay for the one before."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    connection.close()
