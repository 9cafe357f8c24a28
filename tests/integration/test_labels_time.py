"""Classes that change without new reports: by time, new rules, or a migration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import LabelSource
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import refresh_classes, store_labels
from fraud_adapters.postgres.scored_transactions import store_scored, store_transactions
from fraud_core.batch import Batch
from fraud_core.labels import LabelEvent, Source
from fraud_db.bootstrap import bootstrap
from fraud_db.upgrade import alembic_config, engine, upgrade
from tests.integration.store_paths import store_path  # noqa: F401
from tests.support.stored_rows import CREDITCARD, LABELS, START, Database, batch, new_id, predictions, run

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
BEFORE = "labels_before"


@pytest.fixture
def streaming(database: Database) -> Iterator[Connection]:
    upgrade(database.url("owner"), LABELS)
    with closing(connect(database.url("streaming"), "test")) as connection:
        yield connection


def classes(database: Database) -> dict[str, int | None]:
    query = "SELECT transaction_id, class FROM transactions WHERE transaction_id NOT LIKE 'more-%'"
    return dict(run(database.url("readonly"), query))


def recent(n: int, prefix: str = "tx") -> Batch:
    rows = batch(n, prefix=prefix)
    return Batch(rows.ids, [NOW - DAY] * n, rows.columns)


def label_event(transaction: str, label: int, source: Source, at: datetime) -> LabelEvent:
    return LabelEvent(new_id(), transaction, label, source, at)


def store(connection: Connection, rows: Batch, decision: str = "approve") -> None:
    with connection, connection.cursor() as cursor:
        store_scored(cursor, CREDITCARD, rows, predictions(CREDITCARD, rows, decision), "test")


def age(database: Database, days: int) -> None:
    """Time passes for transactions: a later event lies less far back."""
    change = "UPDATE transactions SET event_time = event_time - make_interval(days => %s)"
    run(database.url("owner"), change, days)


def test_the_oldest_are_judged_first_and_no_more_than_asked(
    database: Database, streaming: Connection
) -> None:
    rows = batch(6)
    moments = [NOW - DAY - timedelta(minutes=number) for number in (3, 1, 5, 2, 4, 0)]
    store(streaming, Batch(rows.ids, moments, rows.columns))
    assert refresh_classes(streaming, 4) == 0
    age(database, 60)
    assert refresh_classes(streaming, 4) == 4
    assert {name for name, label in classes(database).items() if label == 0} == {
        *("tx-2", "tx-4", "tx-0", "tx-3")
    }
    assert (refresh_classes(streaming, 4), refresh_classes(streaming, 4)) == (2, 0)
    with pytest.raises(ValueError, match="limit: must be at least 1"):
        refresh_classes(streaming, 0)


def test_a_label_counts_when_its_time_has_come_and_not_before(
    database: Database, streaming: Connection
) -> None:
    store(streaming, recent(1))
    ahead = [
        label_event("tx-0", 1, "analyst", NOW + DAY),
        label_event("not-here", 1, "analyst", NOW + 2 * DAY),
    ]
    with streaming, streaming.cursor() as cursor:
        store_labels(cursor, [*ahead, label_event("tx-0", 0, "simulator", NOW)])
    assert refresh_classes(streaming, 1) == 0
    assert classes(database) == {"tx-0": 0}
    passes = (
        "SET session_replication_role = replica; UPDATE {0} SET reported_at = reported_at - interval '3 days'"
    )
    for table in ("labels", "labels_ahead"):
        run(database.url("admin"), passes.format(table))
    assert [refresh_classes(streaming, 1) for _ in range(3)] == [1, 1, 0]
    assert classes(database) == {"tx-0": 1}


def test_a_blocked_transaction_is_asked_once_and_the_index_finds_the_rest(
    database: Database, streaming: Connection
) -> None:
    store(streaming, recent(300, "blocked"), "block")
    age(database, 60)
    assert refresh_classes(streaming, 1000) == 300
    store(streaming, recent(3))
    assert refresh_classes(streaming, 1000) == 0
    assert set(classes(database).values()) == {None}
    # The index contains only the transactions that are still to be judged.
    silent = "SELECT count(*) FROM transactions WHERE class IS NULL AND class_implied IS NULL"
    assert run(database.url("readonly"), silent) == [(3,)]


def test_classes_follow_when_precedence_or_silence_is_configured_anew(
    database: Database, streaming: Connection
) -> None:
    owner = database.url("owner")
    with streaming, streaming.cursor() as cursor:
        rows = recent(4)
        old = Batch(rows.ids, [NOW - 50 * DAY] * 4, rows.columns)
        store_transactions(cursor, CREDITCARD, old, "test", [None, None, 0, 1])
        store_labels(
            cursor, [label_event("tx-0", 1, "analyst", NOW), label_event("tx-0", 0, "simulator", NOW)]
        )
    assert classes(database) == {"tx-0": 1, "tx-1": 0, "tx-2": 0, "tx-3": 1}
    # All are judged anew, not only as many as fit into one step.
    run(
        owner,
        "INSERT INTO transactions (transaction_id, event_time, contract, source)"
        " SELECT 'more-' || n, now(), 'creditcard/1', 'test' FROM generate_series(1, 10000) n",
    )
    sources = LABELS.sources | {"simulator": LabelSource(precedence=60, maturity=timedelta())}
    longer = {"implied_after": 60 * DAY, "sources": sources}
    upgrade(owner, LABELS.model_copy(update=longer))
    assert classes(database) == {"tx-0": 0, "tx-1": None, "tx-2": 0, "tx-3": 1}
    assert refresh_classes(streaming, 10) == 0
    upgrade(owner, LABELS)
    assert classes(database) == {"tx-0": 1, "tx-1": 0, "tx-2": 0, "tx-3": 1}


@pytest.fixture
def before(template: Any, postgres_admin_url: str) -> Iterator[Database]:
    """A database at the revision before classes were brought up to date as time passes."""
    bootstrap(postgres_admin_url, template.passwords, database=BEFORE, owner=template.owner)
    database: Database = replace(template, name=BEFORE)
    revision = ScriptDirectory.from_config(alembic_config()).get_revision("0008")
    with engine(database.url("owner")).begin() as connection:
        command.upgrade(alembic_config(connection), revision.down_revision)  # type: ignore[arg-type]
    run(
        database.url("owner"),
        "INSERT INTO label_sources VALUES ('analyst', 50, '0'), ('random_audit', 40, '0'),"
        " ('chargeback', 30, '168:00'), ('simulator', 20, '0'), ('implied', 19, '1080:00')",
    )
    yield database
    connection = psycopg2.connect(postgres_admin_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(BEFORE)))
    connection.close()


def test_migrated_rows_keep_their_class_unless_labels_say_otherwise(before: Database) -> None:
    """The rows, with which class, how old, blocked or not; and what each class is afterwards."""
    rows: dict[str, tuple[int | None, datetime, bool, int | None]] = {
        "came with 1": (1, START, False, 1),
        "came with 0 and blocked": (0, START, True, 0),
        "a race lost the analyst": (0, START, False, 1),
        "a race lost the only label": (None, NOW - DAY, False, 1),
        "labelled rightly": (1, START, False, 1),
        "fell silent": (None, START, False, 0),
        "blocked": (None, START, True, None),
        "too young": (None, NOW - DAY, False, None),
        "labelled ahead": (None, NOW - DAY, False, None),
    }
    insert = (
        "INSERT INTO transactions (transaction_id, class, event_time, contract, source)"
        " VALUES (%s, %s, %s, 'creditcard/1', 'test')"
    )
    decide = (
        "INSERT INTO predictions (transaction_id, fraud_score, is_fraud_predicted, model_version, score,"
        " decision, deciding, feature_vector, engine) VALUES (%s, 1, true, '1', 1, 'block', true, '{1}', 'x')"
    )
    label = (
        "INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)"
        " VALUES (%s, %s, %s, %s, %s, %s)"
    )
    for name, (wire_class, moment, blocked, _) in rows.items():
        run(before.url("streaming"), insert, name, wire_class, moment)
        if blocked:
            run(before.url("streaming"), decide, name)
    for name, reported, source, at in (
        ("a race lost the analyst", 1, "analyst", NOW - DAY),
        ("a race lost the analyst", 0, "simulator", NOW - DAY),
        ("a race lost the only label", 1, "chargeback", NOW - DAY),
        ("labelled rightly", 1, "simulator", NOW - DAY),
        ("labelled ahead", 1, "analyst", NOW + DAY),
    ):
        run(before.url("streaming"), label, new_id(), name, reported, source, at, at)
    upgrade(before.url("owner"), LABELS)
    assert classes(before) == {name: expected for name, (*_, expected) in rows.items()}
    assert run(before.url("readonly"), "SELECT transaction_id FROM labels_ahead") == [("labelled ahead",)]
    with closing(connect(before.url("streaming"), "test")) as connection:
        assert refresh_classes(connection, 10) == 1  # the blocked one, for the last time
        assert refresh_classes(connection, 10) == 0
    assert classes(before) == {name: expected for name, (*_, expected) in rows.items()}
