"""Creates the databases and log-in roles; running it again rotates the passwords."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import encrypt_password

from config import constants
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres import connect

_LOCK: Final = 7234019850101
# The server must not log our statements, whatever its settings, because they contain the passwords' hashes.
_QUIET: Final = (
    "SET log_statement = 'none'",
    "SET log_min_duration_statement = -1",
    "SET log_min_error_statement = 'panic'",
)


class BootstrapError(LastingFailure):
    """The databases or roles cannot be created; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """Passwords of the roles; `services` by the service's name as in `constants.SERVICE_ROLES`."""

    owner: str = field(repr=False)
    mlflow: str = field(repr=False)
    airflow: str = field(repr=False)
    services: Mapping[str, str] = field(repr=False)


def bootstrap(
    admin_url: str,
    passwords: Passwords,
    database: str = "fraud_detection",
    owner: str = constants.ROLE_OWNER,
    *,
    service_roles: Mapping[str, str] = constants.SERVICE_ROLES,
    mlflow: str = constants.DATABASE_MLFLOW,
    airflow: str = constants.DATABASE_AIRFLOW,
) -> None:
    """Create the databases of the platform, MLflow and Airflow, their owners, and a log-in role a service.

    Safe to repeat, also by two at once; what exists is kept and gets the passwords given.

    Args:
        admin_url: libpq URL of a superuser.
        passwords: one for every role; none may be empty.
        service_roles: role names by service; the migrations grant rights to the default ones.
        mlflow: MLflow's database, and the role that owns it.
        airflow: Airflow's database, and the role that owns it.

    Raises:
        BootstrapError: a password is missing, or `owner` is the superuser itself.
        DatabaseUnavailable: the server cannot be reached.
    """
    roles = {owner: passwords.owner, mlflow: passwords.mlflow, airflow: passwords.airflow}
    for service, role in service_roles.items():
        roles[role] = passwords.services.get(service, "")
    if missing := [role for role, password in roles.items() if not password]:
        raise BootstrapError(f"No password is given for {', '.join(missing)}.")
    connection = connect(admin_url, "fraud_db bootstrap")
    try:
        _quieten(connection)
        _lock(connection)
        for role, password in roles.items():
            _ensure_role(connection, role, password)
        for reader in ("readonly", "grafana"):
            _execute(
                connection, "ALTER ROLE {} SET default_transaction_read_only = on", service_roles[reader]
            )
        # A dashboard that is refreshed every few seconds must not leave queries behind.
        _execute(connection, "ALTER ROLE {} SET statement_timeout = '15s'", service_roles["grafana"])
        _ensure_database(connection, database, owner, service_roles.values())
        for own in (mlflow, airflow):
            _ensure_database(connection, own, own, ())
    finally:
        connection.close()


def create_database(admin_url: str, name: str, owner: str, users: Iterable[str]) -> None:
    """Create an empty database if it does not exist; `users` may connect to it.

    Raises:
        DatabaseUnavailable: the server cannot be reached.
    """
    connection = connect(admin_url, "fraud_db create")
    try:
        connection.autocommit = True
        _ensure_database(connection, name, owner, users)
    finally:
        connection.close()


def drop_database(admin_url: str, name: str) -> None:
    """Drop a database even if clients are connected; does nothing if it does not exist."""
    connection = connect(admin_url, "fraud_db drop")
    try:
        connection.autocommit = True
        _execute(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    finally:
        connection.close()


def clone_database(admin_url: str, template: str, name: str, owner: str) -> None:
    """Create `name` as a copy of `template`, with owner and privileges; no client may be connected to it."""
    connection = connect(admin_url, "fraud_db clone")
    try:
        connection.autocommit = True
        _execute(connection, "CREATE DATABASE {} TEMPLATE {} OWNER {}", name, template, owner)
        _grant_database(connection, name, owner, constants.SERVICE_ROLES.values())
    finally:
        connection.close()


def _quieten(connection: Connection) -> None:
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() != (True,):
            raise BootstrapError("POSTGRES_ADMIN_URL: the user must be a superuser.")
        for statement in _QUIET:
            cursor.execute(statement)


def _lock(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))


def _ensure_role(connection: Connection, role: str, password: str) -> None:
    if role == connection.info.user:
        raise BootstrapError(
            f"The role {role} is the superuser POSTGRES_ADMIN_URL logs in as: choose another DB_USER."
        )
    # Hashed here, so that the password itself is never sent to the server.
    verifier = encrypt_password(password, role, connection, "scram-sha-256")
    with suppress(errors.DuplicateObject):
        _execute(connection, "CREATE ROLE {}", role)
    statement = sql.SQL(
        "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
    ).format(sql.Identifier(role), sql.Literal(verifier))
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _ensure_database(connection: Connection, name: str, owner: str, users: Iterable[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        exists = cursor.fetchone() is not None
    if exists:
        _execute(connection, "ALTER DATABASE {} OWNER TO {}", name, owner)
    else:
        # Sorting by code point is the same on all systems and several times faster than by language.
        _execute(
            connection,
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' "
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
            name,
            owner,
        )
    _grant_database(connection, name, owner, users)


def _grant_database(connection: Connection, name: str, owner: str, users: Iterable[str]) -> None:
    _execute(connection, "ALTER DATABASE {} SET timezone = 'UTC'", name)
    _execute(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", name)
    for role in (owner, *users):
        # TEMPORARY: rows are copied into a temporary table before they are merged.
        _execute(connection, "GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", name, role)


def _execute(connection: Connection, statement: str, *identifiers: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))
