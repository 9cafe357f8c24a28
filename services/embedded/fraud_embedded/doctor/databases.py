"""Checks of Postgres: log-ins, migrations, rights."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config import constants, services
from fraud_adapters.postgres import DatabaseLoginRefused, connect
from fraud_db.upgrade import head
from fraud_embedded.doctor.target import Target
from fraud_launcher.findings import Problem

NAME: Final = "doctor"
# What a role must be allowed and what it must not; the whole list is in docs/database.md.
MAY: Final = (
    ("producer", "simulated_labels", "INSERT"),
    ("streaming", "transactions", "INSERT"),
    ("streaming", "stream_offsets", "UPDATE"),
    ("api", "predictions", "INSERT"),
    ("api", "signing_keys", "SELECT"),
    ("trainer", "model_versions", "INSERT"),
    ("readonly", "transactions", "SELECT"),
    ("readonly", "predictions", "SELECT"),
)
MAY_NOT: Final = (
    ("producer", "predictions", "INSERT"),
    ("producer", "signing_keys", "SELECT"),
    ("streaming", "signing_keys", "SELECT"),
    ("streaming", "transactions", "DELETE"),
    ("api", "transactions", "DELETE"),
    ("api", "audit_log", "INSERT"),
    ("trainer", "transactions", "INSERT"),
    ("trainer", "signing_keys", "SELECT"),
    ("readonly", "signing_keys", "SELECT"),
    ("readonly", "transactions", "INSERT"),
    *((role, "audit_log", right) for role in constants.SERVICE_ROLES for right in ("UPDATE", "DELETE")),
)
_RIGHT: Final = "SELECT has_table_privilege(%s, %s, %s)"
_POWERS: Final = """
    SELECT rolname FROM pg_roles
    WHERE rolname = ANY (%s)
      AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
           OR has_schema_privilege(rolname, 'public', 'CREATE'))
"""


def check_log_ins(target: Target) -> str:
    """Log in as the owner and as every role, each with its own password.

    Raises:
        DatabaseUnavailable: the server does not answer.
        Problem: a password is refused.
    """
    for role in ("owner", *constants.SERVICE_ROLES):
        variable = "DB_PASSWORD" if role == "owner" else services.role_password(role)
        try:
            connect(target.database_url(role), NAME).close()
        except DatabaseLoginRefused as error:
            raise Problem(
                f"Postgres refuses the {role} role: {variable} in .env is not its password "
                f"({_reason(error)}).",
                f"Restore {variable} in .env, or run {target.start}, which gives the roles the "
                "passwords of .env.",
            ) from None
    return (
        f"Postgres on port {target.ports['postgres']} accepts all {len(constants.SERVICE_ROLES) + 1} roles."
    )


def check_migrations(target: Target) -> str:
    """Compare the database's revision with the newest migration.

    Raises:
        Problem: the database is at another revision, or was never migrated.
    """
    with closing(connect(target.database_url("owner"), NAME)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
        revision = None
        if cursor.fetchone()[0]:
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
            revision = row[0] if row else None
    if revision != head():
        state = f"is at revision {revision}" if revision else "was never migrated"
        raise Problem(
            f"The database {target.database} {state}, and the newest migration is {head()}.",
            f"Run {target.start}, which migrates the database.",
        )
    return f"The database {target.database} is at the newest revision, {revision}."


def check_rights(target: Target) -> str:
    """Check that roles have the rights they need, and not those that would undo their separation.

    Raises:
        Problem: a role or a right is missing, or there is a right too many.
    """
    with closing(connect(target.database_url("owner"), NAME)) as connection:
        if absent := _absent_roles(connection):
            raise Problem(
                f"The role {absent[0]} does not exist.", f"Run {target.start}, which creates the roles."
            )
        missing = [right for right in MAY if not _has(connection, *right)]
        surplus = [right for right in MAY_NOT if _has(connection, *right)]
        powerful = _powerful(connection)
    if missing:
        role, table, right = missing[0]
        raise Problem(
            f"The role {constants.SERVICE_ROLES[role]} has no right to {right} on {table}.",
            f"Run {target.start}, which migrates the database and with it the rights; docs/database.md "
            "lists them.",
        )
    if surplus or powerful:
        if surplus:
            role, table, right = surplus[0]
            what, who = f"{right} on {table}", constants.SERVICE_ROLES[role]
        else:
            what, who = "more than its tables (superuser, new roles, databases or tables)", powerful[0]
        raise Problem(
            f"The role {who} may do {what}, which it must not.",
            f"Revoke it as the owner of the schema; docs/database.md lists the rights of {who}.",
        )
    return f"{len(MAY)} rights that roles need are there, {len(MAY_NOT)} that they must not have are not."


def _has(connection: Connection, role: str, table: str, right: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_RIGHT, (constants.SERVICE_ROLES[role], table, right))
        return bool(cursor.fetchone()[0])


def _absent_roles(connection: Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles")
        known = {row[0] for row in cursor.fetchall()}
    return [role for role in constants.SERVICE_ROLES.values() if role not in known]


def _powerful(connection: Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_POWERS, (list(constants.SERVICE_ROLES.values()),))
        return [row[0] for row in cursor.fetchall()]


def _reason(error: Exception) -> str:
    return str(error).rpartition("FATAL:")[2].strip().rstrip(".")
