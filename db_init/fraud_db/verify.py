"""Checks a database against the migrations, and its audit chain."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import make_dsn
from sqlalchemy import Connection, text

from config import constants
from fraud_db import catalogue
from fraud_db.bootstrap import create_database, drop_database
from fraud_db.upgrade import current_revision, engine, head, migrate


def verify(url: str, admin_url: str) -> list[str]:
    """The problems of the database, each as a sentence without a full stop; empty if there are none.

    Its schema is compared with that of a temporary database that the migrations create, so that there is no
    second description of the schema.

    Args:
        url: libpq URL of the database's owner.
        admin_url: libpq URL of a superuser of the same server.

    Raises:
        DatabaseUnavailable: the server cannot be reached.
    """
    with engine(url).connect() as connection:
        revision = current_revision(connection)
        if revision != head():
            return [f"it is at revision {revision}, not {head()}: run `python -m fraud_db upgrade`"]
        actual = catalogue.read(connection)
        broken = broken_chain(connection)
        owner = str(connection.scalar(text("SELECT current_user")))
    with _new_database(admin_url, owner) as name, engine(make_dsn(url, dbname=name)).begin() as connection:
        migrate(connection)
        expected = catalogue.read(connection)
    return catalogue.differences(expected, actual) + broken


@contextmanager
def _new_database(admin_url: str, owner: str) -> Iterator[str]:
    name = f"fraud_verify_{uuid.uuid4().hex[:12]}"
    create_database(admin_url, name, owner, constants.SERVICE_ROLES.values())
    try:
        yield name
    finally:
        drop_database(admin_url, name)


def broken_chain(connection: Connection) -> list[str]:
    """The problems of the audit log, each as a sentence without a full stop."""
    rows = connection.execute(text("SELECT broken_entry, problem FROM audit_verify()"))
    return [f"the audit log is broken at entry {row.broken_entry}: {row.problem}" for row in rows]
