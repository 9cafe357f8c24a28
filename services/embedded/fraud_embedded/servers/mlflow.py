"""Embedded MLflow: metadata in the embedded Postgres, artefacts through the server to the object store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config import constants
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec
from fraud_embedded.servers.objectstore import ObjectStoreServer


@dataclass(frozen=True, slots=True)
class Mlflow:
    """One tracking server on 127.0.0.1.

    `database_url` is that of MLflow's own database and role; `users` are the variables of its users.
    """

    place: Path
    port: int
    store: ObjectStoreServer
    database_url: str = field(repr=False)
    users: Mapping[str, str] = field(repr=False)

    @property
    def tracking_uri(self) -> str:
        return f"http://{probes.HOST}:{self.port}"


def prepare(server: Mlflow) -> None:
    server.place.mkdir(parents=True, exist_ok=True)


def spec(server: Mlflow) -> ProcessSpec:
    """The server's process; database and object store must be up."""
    return ProcessSpec(
        name="mlflow",
        argv=(sys.executable, "-m", "fraud_mlflow"),
        cwd=server.place,
        env={
            **server.store.bucket_environment(constants.BUCKET_MLFLOW),
            **server.users,
            "MLFLOW_HOST": probes.HOST,
            "MLFLOW_PORT": str(server.port),
            "MLFLOW_BACKEND_STORE_URI": server.database_url.replace("postgresql:", "postgresql+psycopg2:", 1),
        },
        stop_seconds=5,
        ready=lambda: probes.http_ok(server.port, "/health"),
    )
