"""Starts the platform: servers without dependencies at once, the others as soon as possible."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import psycopg2

from config.settings import ConfigurationError
from fraud_adapters.kafka import ensure_topics
from fraud_embedded import addresses
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import Layout, ensure_dotenv, read_settings
from fraud_embedded.jobs import run_job
from fraud_embedded.platform import Platform, configure
from fraud_embedded.processes.ports import is_free
from fraud_embedded.processes.process import ProcessSpec
from fraud_embedded.processes.supervision import NAMES, Supervisor
from fraud_embedded.progress import Progress
from fraud_embedded.servers import airflow, broker, gateway, mlflow, objectstore, postgres
from fraud_launcher.exit_codes import shell_code

# Enough for a busy machine with two slow cores; a server that ends is noticed at once.
_PATIENCE_S: Final = 180
# Where servers are and how to log in to them follows from the role alone, whatever a shell has exported.
_PLATFORM_VARIABLES: Final = re.compile(
    r"(DATABASE_URL|DB|POSTGRES|PG\w+|KAFKA|MLFLOW|S3|AWS|API|AUDIT)(_\w+)?|AIRFLOW__\w+",
)


def prepare(layout: Layout, progress: Progress) -> tuple[Platform, Supervisor, bool]:
    """Directories, `.env`, ports and supervisor; nothing is started.

    Returns:
        The platform, its supervisor, and whether it was running already.

    Raises:
        ConfigurationError: `.env` or PORT_OFFSET is wrong.
        StartFailed: the supervisor does not start.
    """
    layout.make()
    if written := ensure_dotenv(layout):
        progress.say(f"Wrote {len(written)} settings to {layout.env_file}; every generated secret is random.")
    settings = read_settings(layout, os.environ)
    supervisor = Supervisor(layout)
    running = supervisor.running()
    platform = configure(layout, _addresses(layout, settings, supervisor, running, progress), settings)
    _prepare_servers(platform)
    if running:
        for spec in platform.specs().values():
            supervisor.write(spec)
    else:
        supervisor.launch(platform.specs().values())
    return platform, supervisor, running


def _addresses(
    layout: Layout, settings: dict[str, str], supervisor: Supervisor, running: bool, progress: Progress
) -> Addresses:
    kept = addresses.read(layout.state_file)
    explicit = settings.get("PORT_OFFSET")
    if running and kept is not None:
        if explicit and explicit != str(kept):
            raise ConfigurationError(
                f"PORT_OFFSET is {explicit}, but the platform runs with {kept}: stop it first (demo-down)."
            )
        return Addresses(kept)
    supervisor.end_orphans(reversed(NAMES))
    chosen = addresses.choose(kept, explicit, usable)
    if chosen.offset != (kept or 0):
        taken = ", ".join(addresses.taken(kept or 0, usable)[:3])
        clash = "PORT_OFFSET is set" if explicit else taken
        progress.say(f"Ports are moved by {chosen.offset} ({clash}).")
    addresses.keep(layout.state_file, chosen)
    return chosen


def usable(port: int) -> bool:
    """Whether any of our servers could listen on the port."""
    return is_free(port) and not objectstore.blocked(port)


def _prepare_servers(platform: Platform) -> None:
    stack = platform.stack
    objectstore.prepare(stack.objectstore)
    broker.prepare(stack.broker)
    mlflow.prepare(stack.mlflow)
    airflow.prepare(platform.airflow())
    postgres.prepare(stack.postgres)
    gateway.prepare(platform.gateway())


class Startup:
    """The steps of one start, run side by side; `result` of a future gives or raises what became of it."""

    def __init__(self, platform: Platform, supervisor: Supervisor, progress: Progress) -> None:
        self._platform = platform
        self._supervisor = supervisor
        self._progress = progress
        self._specs = platform.specs()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="start")
        self.store = self._submit(self._server("objectstore"))
        self.database = self._submit(self._database)
        self.broker = self._submit(self._broker)
        self.mlflow = self._submit(self._mlflow)
        self.airflow = self._submit(self._airflow)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, name: str) -> None:
        """Start one server and wait until it answers."""
        self._server(name)()

    def _submit(self, work: Callable[[], None]) -> Future[None]:
        return self._pool.submit(work)

    def _server(self, name: str) -> Callable[[], None]:
        def start() -> None:
            spec: ProcessSpec = self._specs[name]
            with self._progress.step(f"start {name}"):
                self._supervisor.start(name)
                try:
                    self._supervisor.wait(spec, _PATIENCE_S)
                except psycopg2.OperationalError:
                    raise ConfigurationError(
                        "POSTGRES_PASSWORD in .env is not the one the data was made with: restore it there, "
                        "or start afresh with demo-clean."
                    ) from None

        return start

    def _database(self) -> None:
        self._server("postgres")()
        with self._progress.step("prepare the database"):
            run_job(self._platform, "bootstrap", ["fraud_db", "bootstrap"])
            run_job(self._platform, "migrate", ["fraud_db", "upgrade"])

    def _broker(self) -> None:
        self.store.result()
        self._server("broker")()
        ensure_topics(self._platform.stack.broker.bootstrap, self._platform.topics())
        self.database.result()
        self._supervisor.start(broker.TRIM)

    def _mlflow(self) -> None:
        self.store.result()
        self.database.result()
        self._server("mlflow")()

    def _airflow(self) -> None:
        """All but the scheduler, which would start runs before there is anything for them to use."""
        self.database.result()
        with self._progress.step("prepare airflow"):
            airflow.initialise(self._platform.airflow(), self._supervisor.log("airflow-init"))
        starting = [self._submit(self._server(name)) for name in (airflow.WEBSERVER, airflow.DAG_PROCESSOR)]
        for future in starting:
            future.result()
        self._supervisor.start(airflow.CLEANUP)


def command(platform: Platform, role: str, arguments: list[str]) -> int:
    """Run the user's command with a role's environment added to the user's own."""
    personal = {name: value for name, value in os.environ.items() if not _PLATFORM_VARIABLES.fullmatch(name)}
    environment = personal | platform.environment(role)
    environment |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    return shell_code(subprocess.run(arguments, env=environment, check=False).returncode)
