"""Checks that a database is what the migrations and the audit chain say it is."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from fraud_adapters.tables import metadata
from fraud_db.upgrade import engine, head

# Alembic's own table is part of no application's metadata.
_VERSION_TABLE = "alembic_version"


def verify(url: str) -> list[str]:
    """What is wrong with the database, a sentence without full stop each; empty when nothing is.

    Args:
        url: libpq URL of the database's owner.

    Raises:
        DatabaseUnavailable: the server cannot be reached.
    """
    with engine(url).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "include_object": _is_ours},
        )
        revision = context.get_current_revision()
        if revision != head():
            return [f"it is at revision {revision}, not {head()}: run `python -m fraud_db upgrade`"]
        differences = [
            f"its tables differ from the code's: {item}" for item in compare_metadata(context, metadata)
        ]
        return differences + _broken_chain(connection)


def _is_ours(_object: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    return not (kind == "table" and name == _VERSION_TABLE)


def _broken_chain(connection: Connection) -> list[str]:
    rows = connection.execute(text("SELECT broken_entry, problem FROM audit_verify()"))
    return [f"the audit log is broken at entry {row.broken_entry}: {row.problem}" for row in rows]
