"""How Postgres reads examples from tables that were filled a moment ago and have no statistics yet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
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
LARGE = {"transactions", "labels", "predictions"}
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
    filled: Database, postgres_admin_url: str, read: Read
) -> None:
    [(name,)] = run(filled.url("owner"), "SELECT current_database()")
    admin = make_dsn(postgres_admin_url, dbname=name)
    with explained(admin) as connection:
        read(connection, WIRE, datetime.now(UTC))
        assert compared_row_by_row(connection) == []
        queries = [plan["Query Text"] for plan in plans(connection) if tables(plan["Plan"])]
    # The same queries without the setting are: the plan depends on it, not on the number of rows.
    with explained(admin) as connection:
        with connection, connection.cursor() as cursor:
            for query in queries:
                if query.startswith("COPY"):
                    cursor.copy_expert(query, io.StringIO())
                else:
                    cursor.execute(query)
        assert compared_row_by_row(connection) != []


@contextmanager
def explained(admin: str) -> Iterator[Any]:
    """A session in which the server reports the plan of each query."""
    with closing(psycopg2.connect(admin)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("LOAD 'auto_explain'")
            cursor.execute("SET auto_explain.log_min_duration = 0; SET auto_explain.log_format = json")
            cursor.execute("SET client_min_messages = log")
        yield connection


def plans(connection: Any) -> list[dict[str, Any]]:
    return [json.loads(text[text.index("{") :]) for text in connection.notices if "plan:" in text]


def compared_row_by_row(connection: Any) -> list[tuple[set[str], set[str]]]:
    """The large tables on both sides of each nested loop, in the plans that the server reported."""
    reported = plans(connection)
    assert any("transactions" in tables(plan["Plan"]) for plan in reported)
    loops = [loop for plan in reported for loop in nodes(plan["Plan"]) if loop["Node Type"] == "Nested Loop"]
    sides = [(tables(loop["Plans"][0]), tables(loop["Plans"][1])) for loop in loops]
    return [(outer, inner) for outer, inner in sides if outer and inner]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def tables(plan: dict[str, Any]) -> set[str]:
    """The large tables that a part of a plan scans."""
    return {node["Relation Name"] for node in nodes(plan) if node.get("Relation Name") in LARGE}
