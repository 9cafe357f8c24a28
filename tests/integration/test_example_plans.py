"""How Postgres reads examples from tables that were filled a moment ago and have no statistics yet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from fraud_adapters.postgres import connect, examples
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_core.contract import Contract
from tests.integration.training_installation import wire_rows
from tests.support.stored_rows import WIRE, Database, run

ROWS = 3000
Read = Callable[[Any, Contract, datetime], object]


@pytest.fixture
def filled(database: Database) -> Database:
    """Transactions that nobody analysed."""
    run(database.url("owner"), "ALTER TABLE transactions SET (autovacuum_enabled = false)")
    url = database.url("producer")
    with closing(connect(url, "test")) as connection, connection, connection.cursor() as cursor:
        store_transactions(cursor, WIRE, wire_rows(ROWS)[0], "bank")
    return database


@pytest.mark.parametrize("read", [examples.read_examples, examples.left_out], ids=["examples", "left out"])
def test_whole_tables_are_joined_without_nested_loops(
    filled: Database, postgres_admin_url: str, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    [(name,)] = run(filled.url("owner"), "SELECT current_database()")
    admin = make_dsn(postgres_admin_url, dbname=name)
    assert "Nested Loop" not in plans(admin, read)
    # Without the setting it would be there: the plan depends on it, not on the number of rows.
    monkeypatch.setattr(examples, "read_whole_tables", lambda _cursor: None)
    assert "Nested Loop" in plans(admin, read)


def plans(admin: str, read: Read) -> str:
    """The plans of all statements, as the server reports them to the session."""
    with closing(psycopg2.connect(admin)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("LOAD 'auto_explain'")
            cursor.execute("SET auto_explain.log_min_duration = 0; SET client_min_messages = log")
        read(connection, WIRE, datetime.now(UTC))
        reported = "\n".join(connection.notices)
        assert "transactions x" in reported
        return reported
