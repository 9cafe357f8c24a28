"""Which platform is examined, embedded or Docker Compose, and where its servers answer on this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import SecretStr

from config import constants, services
from config.settings import KafkaSettings, postgres_url
from fraud_embedded import addresses
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import Layout
from fraud_embedded.processes.probes import HOST
from fraud_launcher import paths
from fraud_launcher.findings import Problem

Kind = Literal["demo", "compose"]

_CONTAINER: Final = "fraud-postgres"
_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Target:
    """One platform as it is reached from this machine.

    Attributes:
        running: whether it was started, as a whole.
        settings: the variables of `.env`; empty if there is none.
        ports: by server: postgres, kafka, mlflow, api, airflow, and in the demo object store.
    """

    kind: Kind
    running: bool
    settings: Mapping[str, str] = field(repr=False)
    ports: Mapping[str, int] = field(default_factory=dict)

    def secret(self, name: str) -> str:
        """A variable of `.env`.

        Raises:
            Problem: it is not set.
        """
        if not self.settings.get(name):
            raise Problem(
                f"{name} is not set in .env.", f"Set {name} in .env, or run ./fraud demo or make up."
            )
        return self.settings[name]

    def url(self, server: str) -> str:
        return f"http://{HOST}:{self.ports[server]}"

    @property
    def database(self) -> str:
        return self.settings.get("DB_NAME") or "fraud_detection"

    def database_url(self, role: str) -> str:
        """The URL of `owner`, or of a service of `constants.SERVICE_ROLES`."""
        if role == "owner":
            user, password = self.settings.get("DB_USER") or constants.ROLE_OWNER, "DB_PASSWORD"
        else:
            user, password = constants.SERVICE_ROLES[role], services.role_password(role)
        secret = SecretStr(self.secret(password))
        return postgres_url(user, secret, HOST, self.ports["postgres"], self.database)

    @property
    def kafka(self) -> KafkaSettings:
        topic = self.settings.get("KAFKA_TOPIC") or constants.TOPIC_TRANSACTIONS
        return KafkaSettings(kafka_bootstrap_servers=f"{HOST}:{self.ports['kafka']}", kafka_topic=topic)

    @property
    def start(self) -> str:
        """The command that starts it."""
        return "./fraud demo" if self.kind == "demo" else "make up"


def find(layout: Layout, settings: Mapping[str, str], wanted: Kind | None) -> Target:
    """The platform that runs here; by default, if none does, the embedded one."""
    demo_runs = paths.runs(layout.local)
    kind = wanted or ("demo" if demo_runs or not compose_runs() else "compose")
    if kind == "demo":
        return Target("demo", demo_runs, settings, demo_ports(layout, settings))
    return Target("compose", compose_runs(), settings, compose_ports(settings))


def demo_ports(layout: Layout, settings: Mapping[str, str]) -> dict[str, int]:
    """The specified ports, moved by the offset of the last start, else by PORT_OFFSET."""
    offset = addresses.read(layout.state_file)
    if offset is None:
        text = settings.get("PORT_OFFSET", "")
        offset = int(text) if text.isascii() and text.isdigit() else 0
    chosen = Addresses(offset)
    return {name: port + chosen.offset for name, port in addresses.SPECIFIED.items()}


def compose_ports(settings: Mapping[str, str]) -> dict[str, int]:
    """The ports that docker-compose.local.yml publishes; the object store is not published."""
    defaults = {
        "postgres": addresses.POSTGRES,
        "kafka": addresses.KAFKA,
        "mlflow": addresses.MLFLOW,
        "api": addresses.API,
        "airflow": addresses.AIRFLOW,
        "redis": 6379,
        "prometheus": 9090,
        "alertmanager": 9093,
        "grafana": 3000,
    }
    return {name: int(settings.get(f"PUBLISH_{name.upper()}") or port) for name, port in defaults.items()}


def compose_runs() -> bool:
    """Whether the containers of Docker Compose run."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "ps", "--quiet", "--filter", f"name=^{_CONTAINER}$"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return bool(done.stdout.strip())
