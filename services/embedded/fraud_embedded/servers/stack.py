"""The servers put together: which directories they use and in which order they depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config import constants
from fraud_embedded.servers import account, broker, mlflow, objectstore, postgres


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the servers themselves need to keep strangers out; `mlflow_users` are variables."""

    postgres_superuser: str
    mlflow_database: str
    store_access_key: str
    store_secret_key: str
    store_runs: str
    store_mlflow: str
    mlflow_users: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ports:
    postgres: int
    kafka: int
    mlflow: int
    object_store: int
    object_store_internal: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """Every server, configured; nothing is started."""

    objectstore: objectstore.ObjectStoreServer
    postgres: postgres.Postgres
    broker: broker.Broker
    mlflow: mlflow.Mlflow


def build(local: Path, run: Path, ports: Ports, secrets: Secrets, durable: bool = True) -> Stack:
    """Configure the servers below `local`; sockets go to `run`, whose path must be short.

    Raises:
        account.NoUsableDirectory: the database has no account to run as or no directory to use.
    """
    user = account.database_account()
    store = objectstore.ObjectStoreServer(
        place=local / "objectstore",
        run=run,
        port=ports.object_store,
        internal_ports=ports.object_store_internal,
        access_key=secrets.store_access_key,
        secret_key=secrets.store_secret_key,
        bucket_secrets={
            constants.BUCKET_RUNS: secrets.store_runs,
            constants.BUCKET_MLFLOW: secrets.store_mlflow,
        },
    )
    database = postgres.Postgres(
        place=account.directory_for(local, user),
        port=ports.postgres,
        password=secrets.postgres_superuser,
        account=user,
        durable=durable,
    )
    return Stack(
        objectstore=store,
        postgres=database,
        broker=broker.Broker(place=local / "broker", port=ports.kafka, store=store),
        mlflow=mlflow.Mlflow(
            place=local / "mlflow",
            port=ports.mlflow,
            store=store,
            database_url=database.url("mlflow", secrets.mlflow_database, "mlflow"),
            users=secrets.mlflow_users,
        ),
    )
