"""How Postgres reads examples from tables that were filled a moment ago and have no statistics yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
    filled: Database, postgres_admin_url: str, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    [(name,)] = run(filled.url("owner"), "SELECT current_database()")
    admin = make_dsn(postgres_admin_url, dbname=name)
    assert compared_row_by_row(admin, read) == []
    # Without the setting they are: the plan depends on it, not on the number of rows.
    monkeypatch.setattr(examples, "read_whole_tables", lambda _cursor: None)
    assert compared_row_by_row(admin, read) != []


def compared_row_by_row(admin: str, read: Read) -> list[tuple[set[str], set[str]]]:
    """The large tables on both sides of each nested loop, in the plans that the server reports."""
    with closing(psycopg2.connect(admin)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("LOAD 'auto_explain'")
            cursor.execute("SET auto_explain.log_min_duration = 0; SET auto_explain.log_format = json")
            cursor.execute("SET client_min_messages = log")
        read(connection, WIRE, datetime.now(UTC))
        plans = [json.loads(text[text.index("{") :]) for text in connection.notices if "plan:" in text]
    assert any("transactions" in tables(plan["Plan"]) for plan in plans)
    loops = [loop for plan in plans for loop in nodes(plan["Plan"]) if loop["Node Type"] == "Nested Loop"]
    sides = [(tables(loop["Plans"][0]), tables(loop["Plans"][1])) for loop in loops]
    return [(outer, inner) for outer, inner in sides if outer and inner]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def tables(plan: dict[str, Any]) -> set[str]:
    """The large tables that a part of a plan scans."""
    return {node["Relation Name"] for node in nodes(plan) if node.get("Relation Name") in LARGE}
