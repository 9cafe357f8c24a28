"""The servers of the fault tests, each of which can be killed and started again.

They are durable, as in operation: what a server has confirmed must survive its SIGKILL.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from config.settings import KafkaSettings
from fraud_adapters.kafka import ensure_topics
from fraud_adapters.postgres import connect
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import ProcessSpec, Running
from fraud_embedded.servers import broker, objectstore, postgres
from tests.support import apache_kafka
from tests.support.api_server import ApiServer, scoring_server, wait_until
from tests.support.servers import (
    Database,
    cloned_database,
    configured_stack,
    migrated_template,
    random_passwords,
)
from tests.support.streaming_installation import StreamInstallation
from tests.support.waiting import eventually

PARTITIONS = 2
START_SECONDS = 120


class Server:
    """A server that can be started and killed repeatedly."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self._running: Running | None = None

    @property
    def runs(self) -> bool:
        return self._running is not None

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start the server and wait until it answers."""
        self._running = Running(self.spec, self.spec.cwd.parent / f"{self.spec.name}.log")
        self._running.wait_ready(seconds)

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop(patience_s=2)
            self._running = None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop it at once: SIGKILL also hits its children, SIGQUIT (Postgres' immediate stop) only itself."""
        assert self._running is not None, f"{self.spec.name} does not run"
        server = psutil.Process(self._running.pid)
        # Postgres' children have their own process groups and hold its shared memory until they end.
        children = server.children(recursive=True)
        for process in (server, *(children if number is signal.SIGKILL else ())):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        self._running.stop(patience_s=10)
        assert eventually(lambda: not any(map(_alive, children)), 20), f"{self.spec.name} does not die"
        self._running = None

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.kill(number)
        self.start()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class KillableServers:
    """The servers; `installation` creates fresh topics and an empty database on them."""

    directory: Path
    template: Database
    postgres: Server
    broker: Server
    api: ApiServer
    api_database: Database
    bootstrap: str
    exit_stack: ExitStack
    apache: Server | None = None
    apache_bootstrap: str = ""

    @contextmanager
    def installation(self, partitions: int = PARTITIONS, bootstrap: str = "") -> Iterator[StreamInstallation]:
        """An installation with fresh topics and an empty database, which is dropped at the end."""
        name = uuid.uuid4().hex[:12]
        servers = bootstrap or self.bootstrap
        kafka = KafkaSettings(kafka_bootstrap_servers=servers, kafka_topic=f"{name}-transactions")
        ensure_topics(servers, [kafka.topic], partitions=partitions)
        ensure_topics(servers, [kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic])
        with cloned_database(self.template, f"faults_{name}") as database:
            yield StreamInstallation(database, kafka, self.api.url, extra={"KAFKA_GROUP": name})

    def apache_kafka(self) -> Server:
        """Apache Kafka, started on first use.

        Raises:
            StartFailed: there is no Java, or Kafka's jars cannot be fetched.
        """
        if self.apache is None:
            java, jars = apache_kafka.find_java(), apache_kafka.fetch_jars()
            port, controller_port = free_ports(2)
            kafka = apache_kafka.ApacheKafka(
                self.directory / "apache",
                port,
                controller_port,
                jars=jars,
                java=java,
                options=apache_kafka.SHORT_LIVED,
            )
            apache_kafka.prepare(kafka)
            self.apache, self.apache_bootstrap = Server(apache_kafka.spec(kafka)), kafka.bootstrap
            self.exit_stack.callback(self.apache.stop)
            self.apache.start()
        return self.apache

    def kill_api(self) -> None:
        assert self.api.process is not None
        self.api.process.kill()
        self.api.process.wait()
        self.api.process = None

    def start_api(self) -> None:
        self.api.start()

    def restart_api(self) -> None:
        self.kill_api()
        self.start_api()

    def repair(self) -> None:
        """Restart every server that a fault has killed."""
        for server in (self.postgres, self.broker, self.apache):
            if server is not None and not server.runs:
                server.start()
        if self.api.process is None:
            self.start_api()
        wait_until(lambda: self.api.get("/health/ready").status_code == 200, self.api)


@contextmanager
def running_servers(below: Path | None = None) -> Iterator[KillableServers]:
    """Start everything; remove all of it at the end.

    Args:
        below: see `configured_stack`; what survives a SIGKILL on disk also does in memory.
    """
    with configured_stack(durable=True, below=below) as stack, ExitStack() as exit_stack:
        base = stack.broker.place.parent

        def start(spec: ProcessSpec) -> Server:
            server = Server(spec)
            exit_stack.callback(server.stop)
            server.start()
            return server

        objectstore.prepare(stack.objectstore)
        exit_stack.callback(objectstore.remove_sockets, stack.objectstore.internal_ports)
        start(objectstore.spec(stack.objectstore))
        postgres.prepare(stack.postgres)
        database_server = start(postgres.spec(stack.postgres))
        template = migrated_template(stack.postgres, random_passwords(stack))
        broker.prepare(stack.broker)
        kafka = start(broker.spec(stack.broker))
        own = exit_stack.enter_context(cloned_database(template, "faults_api"))
        api = exit_stack.enter_context(scoring_server(own, base))
        yield KillableServers(
            base, template, database_server, kafka, api, own, stack.broker.bootstrap, exit_stack
        )


def execute(url: str, statement: str) -> None:
    """Run statements in a separate connection with autocommit."""
    with closing(connect(url, "faults")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
