"""The labels known at a time: `labels_as_of` and `apply_labels`."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_scored, store_transactions
from fraud_core.batch import Batch
from fraud_core.labels import LabelEvent, Source
from fraud_db.upgrade import upgrade
from tests.integration.store_paths import store_path  # noqa: F401
from tests.support.stored_rows import (
    CREDITCARD,
    LABELS,
    START,
    Database,
    batch,
    new_id,
    predictions,
    run,
    waits_for_a_lock,
)
from tests.support.waiting import eventually

DAY = timedelta(days=1)
Known = tuple[int, str, datetime, bool]


@pytest.fixture(autouse=True)
def configured(database: Database) -> None:
    upgrade(database.url("owner"), LABELS)


def report(database: Database, event: LabelEvent) -> None:
    with closing(connect(database.url("streaming"), "test")) as connection, connection:
        store_labels(connection.cursor(), [event])


def label_event(transaction: str, label: int, source: Source, at: datetime) -> LabelEvent:
    return LabelEvent(new_id(), transaction, label, source, at)


def known(database: Database, at: datetime) -> dict[str, Known]:
    rows = run(database.url("trainer"), "SELECT * FROM labels_as_of(%s)", at)
    assert len(rows) == len({row[0] for row in rows})
    return {row[0]: row[1:] for row in rows}


def history(database: Database, rows: Batch, decision: str | None = None) -> None:
    with closing(connect(database.url("streaming"), "test")) as connection, connection:
        if decision is None:
            store_transactions(connection.cursor(), CREDITCARD, rows, "test")
        else:
            store_scored(
                connection.cursor(), CREDITCARD, rows, predictions(CREDITCARD, rows, decision), "test"
            )


def classes(database: Database) -> dict[str, int | None]:
    return dict(run(database.url("readonly"), "SELECT transaction_id, class FROM transactions"))


def test_a_label_counts_from_when_it_was_reported_and_matures_later(database: Database) -> None:
    history(database, batch(1))
    report(database, label_event("tx-0", 1, "chargeback", START + DAY))
    assert known(database, START + DAY - timedelta(seconds=1)) == {}
    assert known(database, START + DAY) == {"tx-0": (1, "chargeback", START + DAY, False)}
    assert not known(database, START + 8 * DAY - timedelta(seconds=1))["tx-0"][3]
    assert known(database, START + 8 * DAY)["tx-0"][3]


def test_precedence_beats_time_and_time_beats_the_id(database: Database) -> None:
    history(database, batch(4))
    report(database, label_event("tx-0", 1, "analyst", START + DAY))
    report(database, label_event("tx-0", 0, "chargeback", START + 2 * DAY))
    report(database, label_event("tx-1", 1, "simulator", START + DAY))
    report(database, label_event("tx-1", 0, "simulator", START + 2 * DAY))
    small, great = sorted((new_id(), new_id()))
    report(database, LabelEvent(great, "tx-2", 1, "simulator", START + DAY))
    report(database, LabelEvent(small, "tx-2", 0, "simulator", START + DAY))
    report(database, label_event("tx-3", 0, "chargeback", START + DAY))
    report(database, label_event("tx-3", 1, "random_audit", START + 3 * DAY))
    labels = known(database, START + 10 * DAY)
    assert {key: value[:2] for key, value in labels.items()} == {
        "tx-0": (1, "analyst"),
        "tx-1": (0, "simulator"),
        "tx-2": (1, "simulator"),
        "tx-3": (1, "random_audit"),
    }
    # Seen from earlier, later reports do not exist.
    assert known(database, START + DAY)["tx-1"][:2] == (1, "simulator")
    assert known(database, START + 2 * DAY)["tx-3"][:2] == (0, "chargeback")


def test_silence_counts_as_legitimate_unless_the_transaction_was_blocked(database: Database) -> None:
    history(database, batch(1, prefix="unscored"))
    history(database, batch(1, prefix="approved"), "approve")
    history(database, batch(1, prefix="reviewed"), "review")
    history(database, batch(2, prefix="blocked"), "block")
    report(database, label_event("blocked-1", 1, "analyst", START + DAY))
    due = START + 45 * DAY
    assert set(known(database, due - timedelta(seconds=1))) == {"blocked-1"}
    labels = known(database, due)
    assert set(labels) == {"unscored-0", "approved-0", "reviewed-0", "blocked-1"}
    assert labels["approved-0"] == (0, "implied", due, True)


def test_a_late_report_overrules_silence_from_then_on(database: Database) -> None:
    history(database, batch(1))
    report(database, label_event("tx-0", 1, "chargeback", START + 60 * DAY))
    assert known(database, START + 50 * DAY)["tx-0"][:2] == (0, "implied")
    assert known(database, START + 60 * DAY)["tx-0"] == (1, "chargeback", START + 60 * DAY, False)


def test_the_class_of_a_transaction_follows_its_labels(database: Database) -> None:
    now = datetime.now(UTC)
    rows = batch(3)
    history(database, Batch(rows.ids, [now - DAY] * 3, rows.columns))
    assert classes(database) == {"tx-0": None, "tx-1": None, "tx-2": None}
    report(database, label_event("tx-0", 1, "simulator", now))
    report(database, label_event("tx-1", 1, "simulator", now + DAY))  # not known yet
    assert classes(database) == {"tx-0": 1, "tx-1": None, "tx-2": None}
    report(database, label_event("tx-0", 0, "analyst", now))
    assert classes(database)["tx-0"] == 0


def test_a_label_that_came_before_its_transaction_counts(database: Database) -> None:
    report(database, label_event("tx-1", 1, "chargeback", START))
    history(database, batch(2), "block")
    assert classes(database) == {"tx-0": None, "tx-1": 1}


def test_old_history_is_legitimate_at_once_but_silence_never_overrules_a_given_class(
    database: Database,
) -> None:
    with closing(connect(database.url("producer"), "test")) as connection, connection:
        store_transactions(connection.cursor(), CREDITCARD, batch(2), "test", classes=[1, None])
    assert classes(database) == {"tx-0": 1, "tx-1": 0}


@pytest.mark.parametrize("first", ["label", "transaction"])
def test_label_and_transaction_stored_at_the_same_moment_find_each_other(
    database: Database, first: str
) -> None:
    """Neither session sees the other's row until it commits; the class must be right all the same."""
    rows = batch(1)
    event = LabelEvent(new_id(), "tx-0", 1, "chargeback", START)
    with (
        closing(connect(database.url("streaming"), "labels")) as labels,
        closing(connect(database.url("api"), "transactions")) as transactions,
    ):

        def store_label() -> None:
            store_labels(labels.cursor(), [event])

        def store_transaction() -> None:
            store_scored(
                transactions.cursor(), CREDITCARD, rows, predictions(CREDITCARD, rows, "block"), "api"
            )

        one, other = (
            (store_label, store_transaction) if first == "label" else (store_transaction, store_label)
        )
        one()
        waiting = Thread(target=other)
        waiting.start()
        second = "transactions" if first == "label" else "labels"
        assert eventually(lambda: waits_for_a_lock(database.url("admin"), second))
        assert waiting.is_alive(), "the second must wait for the first to commit"
        (labels if first == "label" else transactions).commit()
        waiting.join(20)
        labels.commit()
        transactions.commit()
    assert classes(database) == {"tx-0": 1}


def test_what_was_known_of_one_transaction_is_looked_up_by_its_id(database: Database) -> None:
    """The function is inlined, and the moment checked once, not for each row."""
    statement = "EXPLAIN SELECT * FROM labels_as_of(now()) WHERE transaction_id = 'tx-0'"
    plan = "\n".join(row[0] for row in run(database.url("trainer"), statement))
    assert "Function Scan" not in plan
    assert plan.count("One-Time Filter: has_come(now())") == 2
    assert "Index Cond: ((transaction_id)::text = 'tx-0'::text)" in plan
