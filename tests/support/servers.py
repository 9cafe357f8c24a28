"""The servers the tests run against: on free ports, with names that are not the defaults."""

from __future__ import annotations

import os
import secrets as random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2

from config import constants
from config.services import mlflow_password, mlflow_users
from config.settings import PlatformSettings, parameters
from fraud_db.bootstrap import Passwords, bootstrap, clone_database, drop_database
from fraud_db.upgrade import upgrade
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.servers import objectstore, postgres
from fraud_embedded.servers.stack import Ports, Secrets, Stack, build

# Different from the defaults, so that a hard-coded name makes a test fail.
OWNER: Final = "ledger_owner"
TEMPLATE: Final = "ledger_template"
_MEMORY_BYTES: Final = 3 * 2**30  # what each worker's servers may write, with room to spare


@dataclass(frozen=True, slots=True)
class Database:
    """A freshly migrated database of one test."""

    name: str
    owner: str
    server: postgres.Postgres
    passwords: Passwords

    def url(self, role: str = "owner") -> str:
        """The URL for a role: `owner`, a service (`producer`, `streaming`, `api`, …) or `admin`."""
        if role == "admin":
            return self.server.url(database=self.name)
        if role in {"owner", self.owner}:
            return self.server.url(self.owner, self.passwords.owner, self.name)
        services = {login: service for service, login in constants.SERVICE_ROLES.items()}
        service = services.get(role, role)
        return self.server.url(constants.SERVICE_ROLES[service], self.passwords.services[service], self.name)


def memory_folder() -> Path | None:
    """A folder in memory that can hold the servers' data and programs, or None.

    There the copy of a database that each test gets takes a sixth of the CPU time that ext4 takes for it.
    """
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    system = os.statvfs(folder)
    enough = system.f_bavail * system.f_frsize >= _MEMORY_BYTES
    return folder if enough and not system.f_flag & os.ST_NOEXEC else None


@contextmanager
def configured_stack(durable: bool, below: Path | None = None) -> Iterator[Stack]:
    """The servers' configuration, with free ports and a temporary directory; nothing is started.

    Args:
        below: where the directory is made; by default where temporary files are.
    """
    base = Path(tempfile.mkdtemp(prefix="fraud-test-", dir=below))
    # The database's account must be able to traverse to its own directory below.
    base.chmod(0o711)
    free = free_ports(4 + objectstore.INTERNAL_PORTS)
    ports = Ports(free[0], free[1], free[2], free[3], tuple(free[4:]))
    secrets = random_secrets()
    try:
        yield build(base, base, ports, secrets, durable=durable)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def random_secrets() -> Secrets:
    """A random secret for each server, and a random password for each user of MLflow."""
    users = {mlflow_password(user): random.token_hex(12) for user in mlflow_users()}
    own = [random.token_hex(12) for _ in range(6)]
    return Secrets(own[0], own[1], own[2], own[3], own[4], own[5], users)


def random_passwords(stack: Stack) -> Passwords:
    """A random password for each role; MLflow's is the one its server was configured with."""
    return Passwords(
        owner=random.token_hex(12),
        mlflow=str(psycopg2.extensions.parse_dsn(stack.mlflow.database_url)["password"]),
        airflow=random.token_hex(12),
        services={service: random.token_hex(12) for service in constants.SERVICE_ROLES},
    )


def migrated_template(server: postgres.Postgres, passwords: Passwords) -> Database:
    """Create the roles, and the migrated database that each test's database is copied from."""
    bootstrap(server.url(), passwords, database=TEMPLATE, owner=OWNER)
    template = Database(TEMPLATE, OWNER, server, passwords)
    upgrade(template.url("owner"), parameters(PlatformSettings()).labels)
    return template


@contextmanager
def cloned_database(template: Database, name: str) -> Iterator[Database]:
    """A copy of the template, dropped at the end even if sessions are still connected."""
    admin = template.server.url()
    clone_database(admin, template.name, name, template.owner)
    try:
        yield Database(name, template.owner, template.server, template.passwords)
    finally:
        drop_database(admin, name)
