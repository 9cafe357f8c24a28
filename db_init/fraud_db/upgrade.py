"""Migrates a database to the newest revision, and updates its label sources from the configuration."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from config import constants
from config.parameters import Labels
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres import connect

IMPLIED: Final = "implied"
SERVICE_ROLES: Final = tuple(constants.SERVICE_ROLES.values())
_LOCK: Final = 7234019850102
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class MigrationError(LastingFailure):
    """The database cannot be migrated; the message is one sentence."""


def upgrade(url: str, labels: Labels, roles: Collection[str] = SERVICE_ROLES) -> str:
    """Migrate to the newest revision, then write `labels` to the table of label sources.

    Where those have changed, the classes of all transactions follow. All in one transaction under a lock:
    two at once run one after the other, a failed one leaves no trace.

    Args:
        url: libpq URL of the database's owner.
        labels: precedence and maturity of each source, and when silence counts as legitimate.
        roles: the roles of the services, which `bootstrap` makes.

    Returns:
        The revision the database is at.

    Raises:
        MigrationError: the services' roles are missing.
        DatabaseUnavailable: the server cannot be reached.
    """
    with engine(url).begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        migrate(connection, roles)
        _sync_label_sources(connection, labels)
    return head()


def migrate(connection: Connection, roles: Collection[str] = SERVICE_ROLES) -> None:
    """Migrate to the newest revision, in the connection's transaction.

    Raises:
        MigrationError: the services' roles are missing.
    """
    _require_roles(connection, roles)
    command.upgrade(alembic_config(connection), "head")


def engine(url: str) -> Engine:
    """An engine without a pool that uses our own `connect`."""
    return create_engine(
        "postgresql+psycopg2://", creator=lambda: connect(url, "fraud_db"), poolclass=NullPool
    )


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def current_revision(connection: Connection) -> str | None:
    """The revision of the database, or None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest revision."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None
    return revision


def _require_roles(connection: Connection, required: Collection[str]) -> None:
    actual = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    if missing := sorted(set(required) - actual):
        raise MigrationError(
            f"The roles {', '.join(missing)} do not exist: run `python -m fraud_db bootstrap` first."
        )


def _sync_label_sources(connection: Connection, labels: Labels) -> None:
    rows: list[tuple[str, int, timedelta]] = [
        (name, source.precedence, source.maturity) for name, source in labels.sources.items()
    ]
    # An implied label has the lowest precedence, so that every report overrules it.
    rows.append((IMPLIED, min((row[1] for row in rows), default=1) - 1, labels.implied_after))
    changed = []
    for name, precedence, maturity in rows:
        # In seconds, so that daylight saving time does not shift a label.
        values = {"source": name, "precedence": precedence, "seconds": maturity.total_seconds()}
        result = connection.execute(_UPSERT_SOURCE, values)
        if result.rowcount:
            changed.append(values)
    if changed:
        # Before the audit entry: the sessions we wait for may themselves wait for the audit chain.
        connection.execute(_RECLASSIFY)
        connection.execute(_AUDIT, {"details": json.dumps({"sources": changed})})


_UPSERT_SOURCE: Final = text("""
    INSERT INTO label_sources AS s (source, precedence, maturity)
    VALUES (:source, :precedence, make_interval(secs => :seconds))
    ON CONFLICT (source) DO UPDATE SET precedence = excluded.precedence, maturity = excluded.maturity
    WHERE (s.precedence, s.maturity) IS DISTINCT FROM (excluded.precedence, excluded.maturity)
""")
# Waits for the sessions that have read the old rules, so that none applies them after the update.
_RECLASSIFY: Final = text("LOCK TABLE label_sources IN ACCESS EXCLUSIVE MODE; SELECT reclassify()")
_AUDIT: Final = text(
    "SELECT audit_append('fraud_db', 'label_sources.changed', 'label_sources', CAST(:details AS jsonb))"
)
