"""Labels that contradict each other: when they are disputed, and what ends it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_core.labels import LabelEvent, Source, parse_label
from fraud_db.upgrade import upgrade
from tests.integration.store_paths import store_path  # noqa: F401
from tests.support.stored_rows import (
    CREDITCARD,
    LABELS,
    Database,
    batch,
    new_id,
    run,
    waits_for_a_lock,
)
from tests.support.waiting import eventually

DAY = timedelta(days=1)
NOW = datetime.now(UTC) - timedelta(minutes=1)
Row = tuple[datetime, datetime | None]


@pytest.fixture(autouse=True)
def configured(database: Database) -> None:
    upgrade(database.url("owner"), LABELS)
    with closing(connect(database.url("streaming"), "test")) as connection, connection:
        store_transactions(connection.cursor(), CREDITCARD, batch(3), "test")


def report(
    database: Database,
    label: int,
    source: Source,
    at: datetime,
    by: str | None = None,
    *,
    about: str = "tx-0",
) -> None:
    event = LabelEvent(new_id(), about, label, source, at, by)
    with closing(connect(database.url("feedback"), "test")) as connection, connection:
        store_labels(connection.cursor(), [event])


def disputes(database: Database, about: str = "tx-0") -> list[Row]:
    statement = "SELECT opened_at, resolved_at FROM label_disputes WHERE transaction_id = %s ORDER BY 1"
    return run(database.url("readonly"), statement, about)


def mature(database: Database, at: datetime, about: str = "tx-0") -> bool:
    statement = "SELECT mature FROM labels_as_of(%s) WHERE transaction_id = %s"
    [(answer,)] = run(database.url("trainer"), statement, at, about)
    return bool(answer)


def test_two_analysts_who_disagree_are_not_used_until_one_thinks_again(database: Database) -> None:
    report(database, 1, "analyst", NOW - 5 * DAY, "ann")
    assert mature(database, NOW - 5 * DAY)
    report(database, 0, "analyst", NOW - 3 * DAY, "bo")
    assert disputes(database) == [(NOW - 3 * DAY, None)]
    assert not mature(database, NOW)
    # The past stays as it was.
    assert mature(database, NOW - 3 * DAY - timedelta(microseconds=1))
    report(database, 0, "analyst", NOW - DAY, "ann")
    assert disputes(database) == [(NOW - 3 * DAY, NOW - DAY)]
    assert mature(database, NOW)
    assert not mature(database, NOW - 2 * DAY)


def test_the_same_person_twice_is_no_consensus_and_no_dispute(database: Database) -> None:
    report(database, 1, "analyst", NOW - 5 * DAY, "ann")
    report(database, 0, "analyst", NOW - 4 * DAY, "ann")
    assert disputes(database) == []
    report(database, 1, "chargeback", NOW - 3 * DAY)
    report(database, 0, "analyst", NOW - 2 * DAY, "ann")
    # Twice the same voice does not outvote the bank's.
    assert disputes(database) == [(NOW - 3 * DAY, None)]


def test_a_lead_ends_a_dispute_and_new_evidence_opens_another(database: Database) -> None:
    report(database, 0, "analyst", NOW - 20 * DAY, "ann")
    report(database, 1, "chargeback", NOW - 15 * DAY)
    report(database, 1, "adjudication", NOW - 10 * DAY, "lea")
    assert disputes(database) == [(NOW - 15 * DAY, NOW - 10 * DAY)]
    assert run(
        database.url("trainer"),
        "SELECT label, source, mature FROM labels_as_of(now()) WHERE transaction_id = 'tx-0'",
    ) == [(1, "adjudication", True)]
    report(database, 1, "analyst", NOW - 8 * DAY, "bo")
    assert mature(database, NOW)
    report(database, 0, "chargeback", NOW - 5 * DAY)
    assert disputes(database)[1:] == [(NOW - 5 * DAY, None)]
    assert not mature(database, NOW)


def test_only_a_person_may_adjudicate_not_a_message() -> None:
    message = b'{"transaction_id": "a", "label": 1, "source": "adjudication"}'
    parsed = parse_label(message, NOW)
    assert isinstance(parsed, tuple)
    assert parsed[1].startswith("source: ")


def test_sessions_that_contradict_each_other_at_the_same_moment_are_noticed(database: Database) -> None:
    """Neither session sees the other's label when it stores its own."""
    url = database.url("feedback")
    with closing(connect(url, "bank")) as bank, closing(connect(url, "analyst")) as analyst:
        store_labels(bank.cursor(), [LabelEvent(new_id(), "tx-0", 1, "chargeback", NOW - DAY)])
        event = LabelEvent(new_id(), "tx-0", 0, "analyst", NOW - DAY, "ann")
        waiting = Thread(target=lambda: store_labels(analyst.cursor(), [event]))
        waiting.start()
        assert eventually(lambda: waits_for_a_lock(database.url("admin"), "analyst"))
        bank.commit()
        waiting.join(20)
        analyst.commit()
    assert disputes(database) == [(NOW - DAY, None)]


def test_a_dispute_of_a_transaction_that_has_not_arrived_is_known(database: Database) -> None:
    report(database, 0, "analyst", NOW - DAY, "ann", about="late-0")
    report(database, 1, "chargeback", NOW - DAY, about="late-0")
    assert disputes(database, "late-0") == [(NOW - DAY, None)]


def test_a_look_up_by_id_uses_the_indexes_of_disputes_too(database: Database) -> None:
    """The join with disputes does not keep the condition from the ledger."""
    owner = database.url("owner")
    run(owner, "INSERT INTO label_disputes SELECT 'd-' || n, now() FROM generate_series(1, 20000) n")
    run(owner, "ANALYZE label_disputes")
    statement = "EXPLAIN SELECT * FROM labels_as_of(now()) WHERE transaction_id = 'tx-0'"
    plan = "\n".join(row[0] for row in run(database.url("trainer"), statement))
    assert "label_disputes_pkey" in plan
    assert "Function Scan" not in plan
    assert plan.count("Index Cond: ((transaction_id)::text = 'tx-0'::text)") >= 2
    assert "Seq Scan on label_disputes" not in plan


def test_who_does_not_ask_for_maturity_does_not_look_for_disputes(database: Database) -> None:
    """As the functions that keep `transactions.class` up to date, on the path of every transaction."""
    statement = "EXPLAIN SELECT transaction_id, label, source FROM labels_as_of(now())"
    plan = "\n".join(row[0] for row in run(database.url("trainer"), statement))
    assert "label_disputes" not in plan
