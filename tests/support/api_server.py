"""The scoring API as a separate process with a small model, for the tests."""

from __future__ import annotations

import json
import os
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import httpx
import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extras import Json

from fraud_core.contract import Contract
from fraud_core.manifest import Manifest
from fraud_db.bootstrap import clone_database
from fraud_embedded.processes.ports import free_ports
from tests.support import forked
from tests.support.mlflow_users import mlflow_login
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD

ROOT: Final = Path(__file__).parents[2]
CLIENTS: Final = {
    "streaming": "streaming-secret",
    "admin": "admin-secret",
    "reader": "reader-secret",
    "airflow": "airflow-client's-secret",
    "rollout": "rollout-secret",
}
ENCRYPTION_SECRET: Final = "a secret of the tests alone"
# How clients speak with these servers: reading all certificates for TLS takes a client 18 ms of CPU.
PLAIN: Final[dict[str, Any]] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
NOWHERE: Final = "127.0.0.1:1"  # nothing listens on this port


def record_version(
    owner_url: str, contract: Contract, version: str, digest: str, *, passed: bool = True
) -> None:
    """Insert the row of `model_versions` without which no version is served."""
    statement = """
        INSERT INTO model_versions (name, version, contract, digest, gate_policy, gate_passed, gate_outcome,
                                    metrics, threshold, block_threshold)
        VALUES (%s, %s, %s, %s, 'specification', %s, %s, %s, 0.5, 0.9)
    """
    values = (contract.registered_model, version, contract.schema_id, digest, passed, Json({}), Json({}))
    with closing(psycopg2.connect(owner_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, values)


def cache_model(cache: Path, contract: Contract, version: str) -> Manifest:
    """Put a version into the server's cache as the last one served, so that no registry is needed."""
    manifest = make_model(cache / contract.registered_model / "new", contract)
    home = cache / contract.registered_model
    (home / "new").rename(home / f"{version}-{manifest.digest()[:16]}")
    (home / "champion").write_text(version, encoding="ascii")
    return manifest


@dataclass
class ApiServer:
    """`python -m fraud_api serve` on free ports; can be started and stopped repeatedly."""

    database_url: str
    cache: Path
    log: Path
    contract: str = "creditcard"
    extra: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | forked.Process | None = None
    module: str = "fraud_api"

    @classmethod
    def changed(cls, server: ApiServer, log: Path, **constants: int) -> Self:
        """A server with the same database and models but changed constants: `body_limit__BODY_SECONDS=1`."""
        assignments = (f"{name.replace('__', '.')}={value}" for name, value in constants.items())
        extra = {"API_CONSTANTS": ",".join(assignments)}
        module = "tests.integration.changed_api"
        return cls(server.database_url, server.cache, log, server.contract, extra, module=module)

    def __post_init__(self) -> None:
        self.port, self.metrics_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return inherited | {
            "APP_ENV": "testing",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "FRAUD_CONTRACT": self.contract,
            "DATABASE_URL": self.database_url,
            "MLFLOW_TRACKING_URI": f"http://{NOWHERE}",
            **mlflow_login("api"),
            "MLFLOW_RELEASE_PASSWORD": mlflow_login("release")["MLFLOW_TRACKING_PASSWORD"],
            "KAFKA_BOOTSTRAP_SERVERS": NOWHERE,
            "API_PORT": str(self.port),
            "API_METRICS_PORT": str(self.metrics_port),
            "API_KEYS": ",".join(f"{name}:{secret}" for name, secret in CLIENTS.items()),
            "API_KEY_ENCRYPTION_SECRET": ENCRYPTION_SECRET,
            "MODEL_CACHE_DIR": str(self.cache),
            **self.extra,
        }

    def program(self) -> list[str]:
        return [sys.executable, "-m", self.module, "serve"]

    def launch(self, log: IO[bytes]) -> subprocess.Popen[bytes] | forked.Process:
        """Start the program; stdout and stderr go to the log."""
        return subprocess.Popen(self.program(), env=self.environment(), cwd=ROOT, stdout=log, stderr=log)

    def start(self, ready: bool = True, seconds: float = 120) -> None:
        with self.log.open("ab") as log:
            self.process = self.launch(log)
        path = "/health/ready" if ready else "/health/live"
        wait_until(lambda: self.get(path).status_code == 200, self, seconds)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def command(self, verb: str, **changes: str) -> dict[str, Any]:
        """Run another verb of `fraud_api`; returns its result."""
        done = forked.run("fraud_api", verb, env=self.environment() | changes)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, **PLAIN, timeout=20, **options)

    def token(self, client: str = "streaming", scope: str | None = None) -> str:
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": CLIENTS[client]}
        answer = httpx.post(
            f"{self.url}/auth/token", data=form | ({"scope": scope} if scope else {}), **PLAIN
        )
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    def client(self, name: str = "streaming") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(name)}"}
        return httpx.Client(base_url=self.url, headers=headers, **PLAIN, timeout=20)

    def cpu_seconds(self) -> float:
        """The processor time that the server has used so far."""
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def connections(self) -> int:
        """The number of accepted connections that are still open."""
        assert self.process is not None
        return sum(
            one.laddr.port == self.port and one.status == psutil.CONN_ESTABLISHED
            for one in psutil.Process(self.process.pid).net_connections("tcp")
        )

    def metric(self, name: str) -> float:
        """The metric's value, summed over all its labels."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", **PLAIN).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


class ForkedApi(ApiServer):
    """Starts the server by `fork`, which saves two seconds of CPU; for tests that are not about the start."""

    def launch(self, log: IO[bytes]) -> forked.Process:
        return forked.start(self.module, "serve", env=self.environment(), stdout=log, stderr=log)


@contextmanager
def scoring_server(
    database: Any,
    folder: Path,
    contract: Contract = CREDITCARD,
    kind: type[ApiServer] = ForkedApi,
    **options: Any,
) -> Iterator[ApiServer]:
    """A running server with a small model of version 7 from the cache: there is no registry."""
    manifest = cache_model(folder / "models", contract, "7")
    record_version(database.url("owner"), contract, "7", manifest.digest())
    server = kind(database.url("api"), folder / "models", folder / "api.log", contract.name, **options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def wait_until(condition: Any, server: ApiServer | None = None, seconds: float = 120) -> None:
    """Poll until the condition holds; a connection error means that it does not hold yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server is not None and server.process is not None and server.process.poll() is not None:
            raise AssertionError(f"the server ended: {server.log.read_text()[-3000:]}")
        with suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.05)
    tail = server.log.read_text()[-3000:] if server is not None else ""
    raise AssertionError(f"it did not happen within {seconds} s\n{tail}")


@contextmanager
def cloned(template: Any, admin_url: str, name: str) -> Iterator[Any]:
    """A database for a whole test module; the fixture `database` is the same for one test."""
    clone_database(admin_url, template.name, name, template.owner)
    try:
        yield type(template)(name, template.owner, template.server, template.passwords)
    finally:
        with closing(psycopg2.connect(admin_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def creditcard(identifier: str | None = None, seed: int | None = None, **changes: Any) -> dict[str, Any]:
    """One record of the contract `creditcard`; `...` as a value drops a field."""
    source = random.Random(seed)
    record: dict[str, Any] = {f"v{number}": round(source.gauss(0, 1.5), 6) for number in range(1, 29)}
    record |= {"time": 4321.5, "amount": round(source.lognormvariate(3, 1), 2)}
    if identifier is not None:
        record["transaction_id"] = identifier
    return {name: value for name, value in (record | changes).items() if value is not ...}


def problem(answer: httpx.Response, status: int) -> Mapping[str, Any]:
    """The problem document of a response; asserts its status."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document
