"""Embedded Airflow as the tests configure it, and its scripts run against its database."""

from __future__ import annotations

import base64
import os
import secrets as random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg2
import pytest

from config import constants
from fraud_db.bootstrap import Passwords, bootstrap
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import ProcessSpec, base_environment
from fraud_embedded.servers import airflow, postgres
from fraud_embedded.servers.airflow import Airflow
from fraud_embedded.servers.stack import Stack
from tests.support.api_server import CLIENTS
from tests.support.killable_servers import START_SECONDS, Server
from tests.support.servers import OWNER, TEMPLATE, configured_stack, memory_folder, random_passwords
from tests.support.stored_rows import run as run_sql

ROOT: Final = Path(__file__).parents[2]
METADATA: Final = "scheduling"  # Airflow's database and role
# Runs send_alert.py for each line of stdin, because importing Airflow takes it 2.5 s of CPU time.
_NOTIFIER: Final = """
import io, sys
sys.path.insert(0, sys.argv[1])
import send_alert
for line in sys.stdin:
    sys.stdin = io.StringIO(line)
    print("EXIT", send_alert.main(), flush=True)
"""


def airflow_python() -> Path:
    """The Python of Airflow's environment; the test is skipped if it was not created."""
    path = Path(os.environ.get("AIRFLOW_PYTHON") or ROOT / ".venv-airflow" / "bin" / "python")
    if not path.exists():
        pytest.skip(f"Airflow's environment is not there: {path}")
    return path


@dataclass
class Metadata:
    """Airflow's own database, and the scripts that work on it."""

    server: Airflow
    _polling: Any = field(default=None, init=False, repr=False)
    _notifier: subprocess.Popen[str] | None = field(default=None, init=False, repr=False)

    def initialise(self, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run `init-airflow.sh` with these variables changed; an empty value removes the variable."""
        return self._run("/bin/sh", self.server.script("init-airflow.sh"), changed=changed)

    def script(self, name: str, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run another of Airflow's scripts."""
        return self._run(str(self.server.python), self.server.script(name), *arguments, changed=changed)

    def send_alert(self, message: str) -> int:
        """Pass a message, one line, to the notifier as the watch does; returns the exit code."""
        server = self.server
        if self._notifier is None:
            self._notifier = subprocess.Popen(
                [str(server.python), "-c", _NOTIFIER, server.script("")],
                cwd=server.place,
                env=base_environment() | server.metadata() | dict(server.setup),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._notifier.stdin is not None
        assert self._notifier.stdout is not None
        self._notifier.stdin.write(f"{message}\n")
        self._notifier.stdin.flush()
        # Its log comes before.
        return next(int(line.split()[1]) for line in self._notifier.stdout if line.startswith("EXIT "))

    def program(self, path: Path, **changed: str) -> str:
        """Run a program with Airflow's packages and our plugins; returns its stdout and stderr."""
        folders = os.pathsep.join([str(ROOT), str(ROOT / "airflow" / "plugins")])
        done = self._run(str(self.server.python), str(path), changed={"PYTHONPATH": folders} | changed)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return run_sql(self.server.database_url, statement, *values)

    def poll(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query that is repeated until they change, over a connection that stays open."""
        if self._polling is None:
            self._polling = psycopg2.connect(self.server.database_url)
            self._polling.autocommit = True
        with self._polling.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def close(self) -> None:
        """Close the connection of `poll`, and end the notifier."""
        if self._polling is not None:
            self._polling.close()
            self._polling = None
        if self._notifier is not None:
            self._notifier.communicate()
            self._notifier = None

    def _run(self, *command: str, changed: dict[str, str]) -> subprocess.CompletedProcess[str]:
        server = self.server
        environment = base_environment() | server.metadata() | dict(server.setup)
        environment |= {"AIRFLOW_PYTHON": str(server.python), "AIRFLOW_PASSWORD": server.password}
        environment |= {"AIRFLOW_TRAIN_PASSWORD": server.train_password}
        return subprocess.run(
            command,
            cwd=server.place,
            env={name: value for name, value in (environment | changed).items() if value},
            capture_output=True,
            text=True,
            check=False,
            timeout=170,
        )


@dataclass(frozen=True)
class FirstStart:
    """The first run of `init-airflow.sh`, and copies of the database it left.

    One is for the tests of `init-airflow.sh`, which change it, the other for DAGs that run in one process.
    """

    done: subprocess.CompletedProcess[str]
    to_initialise: Metadata
    to_run: Metadata


@contextmanager
def running_postgres() -> Iterator[tuple[Stack, Passwords, ExitStack]]:
    """A stack in which only Postgres runs, with the roles and Airflow's own database.

    Servers registered on the exit stack are stopped with it.
    """
    with configured_stack(durable=False, below=memory_folder()) as stack, ExitStack() as exit_stack:
        postgres.prepare(stack.postgres)
        start(postgres.spec(stack.postgres), exit_stack)
        passwords = random_passwords(stack)
        bootstrap(stack.postgres.url(), passwords, database=TEMPLATE, owner=OWNER, airflow=METADATA)
        yield stack, passwords, exit_stack


def start(spec: ProcessSpec, exit_stack: ExitStack, seconds: float = START_SECONDS) -> Server:
    server = Server(spec)
    exit_stack.callback(server.stop)
    server.start(seconds)
    return server


def prepared_airflow(stack: Stack, passwords: Passwords, **overrides: Any) -> Airflow:
    """Airflow configured for those servers, on a free port, with random secrets."""
    folder = stack.broker.place.with_name("airflow")
    port, watch_metrics_port = free_ports(2)
    options: dict[str, Any] = {
        "root": ROOT,
        "place": folder,
        "port": port,
        "watch_metrics_port": watch_metrics_port,
        "database_url": stack.postgres.url(METADATA, passwords.airflow, METADATA),
        "fernet_key": base64.urlsafe_b64encode(random.token_bytes(32)).decode(),
        "jwt_secret": random.token_hex(32),
        "secret_key": random.token_hex(32),
        "password": random.token_hex(12),
        "train_password": random.token_hex(12),
        "watch_password": random.token_hex(12),
        "public": {},
        "jobs": airflow.job_variables(sys.executable, ROOT, folder, {}),
        "setup": {
            "API_URL": "http://127.0.0.1:1",
            "API_CLIENT_ID": constants.CLIENT_AIRFLOW,
            "API_CLIENT_SECRET": CLIENTS["airflow"],
        },
    }
    installation = Airflow(**options | overrides)
    airflow.prepare(installation)
    return installation
