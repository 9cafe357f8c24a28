"""Sessions that report on one transaction at the same moment: its class is right in the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import LabelSource
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import refresh_classes, store_labels
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

NOW = datetime.now(UTC)
RECENT = NOW - timedelta(days=1)


@dataclass
class Sessions:
    """Two sessions, each with a thread to wait in."""

    database: Database
    one: Connection
    other: Connection
    pool: ThreadPoolExecutor

    def waiting(self, session: Connection, work: Callable[[], None]) -> Future[None]:
        """Begin `work` in `session`, which has to wait for the other one."""
        pid = session.info.backend_pid
        begun = self.pool.submit(work)
        assert eventually(lambda: begun.done() or waits_for_a_lock(self.database.url("admin"), pid=pid))
        assert not begun.done(), "it must wait until the other session has ended its transaction"
        return begun

    def classes(self) -> dict[str, int | None]:
        return dict(
            run(self.database.url("readonly"), "SELECT transaction_id, class FROM transactions ORDER BY 1")
        )


@pytest.fixture
def sessions(database: Database) -> Iterator[Sessions]:
    upgrade(database.url("owner"), LABELS)
    with ExitStack() as opened:
        one, other = (
            opened.enter_context(closing(connect(database.url("streaming"), "test"))) for _ in range(2)
        )
        for session in (one, other):
            with session:
                session.cursor().execute(
                    "SET lock_timeout = '20s'"
                )  # makes a hanging test fail at the statement that waits
        yield Sessions(database, one, other, opened.enter_context(ThreadPoolExecutor(2)))


def label_event(transaction: str, label: int, source: Source, at: datetime = NOW) -> LabelEvent:
    return LabelEvent(new_id(), transaction, label, source, at)


def report(session: Connection, *events: LabelEvent) -> None:
    store_labels(session.cursor(), events)


def history(session: Connection, rows: Batch, wire_class: int | None = None) -> None:
    store_transactions(session.cursor(), CREDITCARD, rows, "test", [wire_class] * len(rows))
    session.commit()


def block(session: Connection, rows: Batch) -> None:
    store_scored(session.cursor(), CREDITCARD, rows, predictions(CREDITCARD, rows, "block"), "test")


def recent(n: int = 1) -> Batch:
    rows = batch(n)
    return Batch(rows.ids, [RECENT] * n, rows.columns)


def fell_silent(sessions: Sessions, n: int = 1) -> Batch:
    """Transactions stored when they were recent; by now silence implies a label, which is not applied yet."""
    rows = batch(n)
    history(sessions.one, Batch(rows.ids, [RECENT] * n, rows.columns))
    run(sessions.database.url("owner"), "UPDATE transactions SET event_time = %s", START)
    assert set(sessions.classes().values()) == {None}
    return rows


@pytest.mark.parametrize("wire_class", [None, 0, 1])
@pytest.mark.parametrize("first", [("analyst", 0), ("simulator", 1)])
def test_the_higher_precedence_wins_whoever_comes_first(
    sessions: Sessions, first: tuple[Source, int], wire_class: int | None
) -> None:
    history(sessions.one, recent(), wire_class)
    second: tuple[Source, int] = ("simulator", 1) if first[0] == "analyst" else ("analyst", 0)
    report(sessions.one, label_event("tx-0", first[1], first[0]))
    later = label_event("tx-0", second[1], second[0])
    begun = sessions.waiting(sessions.other, lambda: report(sessions.other, later))
    sessions.one.commit()
    begun.result(20)
    sessions.other.commit()
    assert sessions.classes() == {"tx-0": 0}


def test_what_was_reported_while_a_session_waited_counts(sessions: Sessions) -> None:
    history(sessions.one, recent(2))
    with closing(connect(sessions.database.url("owner"), "test")) as third:
        third.cursor().execute("SELECT FROM transactions WHERE transaction_id = 'tx-0' FOR UPDATE")
        both = [label_event("tx-0", 0, "simulator"), label_event("tx-1", 0, "simulator")]
        begun = sessions.waiting(sessions.one, lambda: report(sessions.one, *both))
        # Later than the waiting session began, and through before it goes on.
        report(sessions.other, label_event("tx-1", 1, "analyst", datetime.now(UTC)))
        sessions.other.commit()
        third.commit()
    begun.result(20)
    sessions.one.commit()
    assert sessions.classes() == {"tx-0": 0, "tx-1": 1}


def test_a_block_that_comes_while_silence_is_judged_withdraws_it(sessions: Sessions) -> None:
    rows = fell_silent(sessions)
    known = Batch(rows.ids, [START], rows.columns)
    sessions.one.cursor().execute("SELECT refresh_classes(10)")
    begun = sessions.waiting(sessions.other, lambda: block(sessions.other, known))
    sessions.one.commit()
    assert sessions.classes() == {"tx-0": 0}
    begun.result(20)
    sessions.other.commit()
    assert sessions.classes() == {"tx-0": None}
    refresh_classes(sessions.one, 10)
    assert sessions.classes() == {"tx-0": None}


@pytest.mark.parametrize("write", ["block", "label"])
def test_silence_is_not_judged_while_somebody_says_something(sessions: Sessions, write: str) -> None:
    rows = fell_silent(sessions, 2)
    if write == "block":
        block(sessions.other, Batch(rows.ids[:1], [START], {k: v[:1] for k, v in rows.columns.items()}))
    else:
        report(sessions.other, label_event("tx-0", 1, "analyst"))
    assert refresh_classes(sessions.one, 10) == 1  # does not wait either
    assert sessions.classes() == {"tx-0": None, "tx-1": 0}
    sessions.other.commit()
    refresh_classes(sessions.one, 10)
    assert sessions.classes() == {"tx-0": None if write == "block" else 1, "tx-1": 0}


def test_a_label_that_comes_while_silence_is_judged_overrules_it(sessions: Sessions) -> None:
    fell_silent(sessions)
    sessions.one.cursor().execute("SELECT refresh_classes(10)")
    begun = sessions.waiting(
        sessions.other, lambda: report(sessions.other, label_event("tx-0", 1, "simulator"))
    )
    sessions.one.commit()
    begun.result(20)
    sessions.other.commit()
    assert sessions.classes() == {"tx-0": 1}


def test_two_that_refresh_at_once_share_the_work(sessions: Sessions) -> None:
    fell_silent(sessions, 5)
    with sessions.one.cursor() as cursor:
        cursor.execute("SELECT refresh_classes(3)")
        assert cursor.fetchone() == (3,)
        assert refresh_classes(sessions.other, 10) == 2
    sessions.one.commit()
    assert set(sessions.classes().values()) == {0}
    assert refresh_classes(sessions.one, 10) == 0


def test_new_rules_wait_for_those_who_judge_by_the_old(sessions: Sessions) -> None:
    history(sessions.one, recent())
    report(sessions.one, label_event("tx-0", 0, "analyst"), label_event("tx-0", 1, "simulator"))
    sources = LABELS.sources | {"simulator": LabelSource(precedence=60, maturity=timedelta())}
    rules = LABELS.model_copy(update={"sources": sources})
    begun = sessions.pool.submit(upgrade, sessions.database.url("owner"), rules)
    assert eventually(lambda: begun.done() or waits_for_a_lock(sessions.database.url("admin"), "fraud_db"))
    sessions.one.commit()
    begun.result(20)
    assert sessions.classes() == {"tx-0": 1}


def test_rows_are_locked_in_one_order_for_all(sessions: Sessions) -> None:
    rows = recent(9)
    for row in reversed(range(9)):  # the order they lie in is another one
        part = {name: values[row : row + 1] for name, values in rows.columns.items()}
        history(sessions.other, Batch(rows.ids[row : row + 1], [RECENT], part))
    everything = "SELECT FROM transactions WHERE transaction_id > 'tx-0' FOR UPDATE NOWAIT"
    with closing(connect(sessions.database.url("owner"), "test")) as third:
        third.cursor().execute("SELECT FROM transactions WHERE transaction_id = 'tx-0' FOR UPDATE")
        events = [label_event(identifier, 1, "analyst") for identifier in rows.ids]
        begun = sessions.waiting(sessions.one, lambda: report(sessions.one, *events))
        run(sessions.database.url("owner"), everything)  # it holds none while it waits for the first
        third.commit()
    begun.result(20)
    sessions.one.commit()


def test_labels_are_inserted_in_one_order_by_all(sessions: Sessions) -> None:
    events = sorted((label_event("tx-0", 1, "analyst") for _ in range(9)), key=lambda event: event.label_id)
    report(sessions.other, events[0])
    begun = sessions.waiting(sessions.one, lambda: report(sessions.one, *events[5:], *events[:5]))
    with closing(connect(sessions.database.url("streaming"), "test")) as third:
        third.cursor().execute("SET lock_timeout = '3s'")
        # The waiting session has inserted none of these, because it waits for the first.
        insert = (
            "INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)"
            " VALUES (%s, 'tx-0', 1, 'analyst', %s, %s)"
        )
        for event in events[1:]:
            third.cursor().execute(insert, (event.label_id, NOW, NOW))
        third.rollback()
    sessions.other.commit()
    begun.result(20)
    sessions.one.commit()


def test_a_storm_of_labels_before_and_after_their_transactions(database: Database) -> None:
    """Batches that overlap in every order, with repeated labels: no session deadlocks."""
    rows, rng = recent(60), random.Random(5)
    events = [
        label_event(identifier, rng.randrange(2), source, RECENT + timedelta(minutes=rng.randrange(3)))
        for identifier in rows.ids
        for source in ("analyst", "chargeback", "simulator", "simulator")
    ]

    def label(seed: int) -> None:
        order = random.Random(seed)
        with closing(connect(database.url("streaming"), f"labels-{seed}")) as session:
            shuffled = order.sample(events, len(events))
            for begin in range(0, len(shuffled), 24):
                with session:
                    store_labels(session.cursor(), shuffled[begin : begin + 24])

    def arrive() -> None:
        with closing(connect(database.url("api"), "transactions")) as session:
            for begin in range(0, 60, 5):
                part = slice(begin, begin + 5)
                columns = {name: values[part] for name, values in rows.columns.items()}
                with session:
                    block(session, Batch(rows.ids[part], list(rows.event_times[part]), columns))

    with ThreadPoolExecutor(4) as pool:
        for begun in [*(pool.submit(label, seed) for seed in range(3)), pool.submit(arrive)]:
            begun.result(60)
    wrong = (
        "SELECT transaction_id, x.class, a.label FROM transactions x LEFT JOIN labels_as_of(now()) a"
        " USING (transaction_id) WHERE x.class IS DISTINCT FROM a.label"
    )
    url = database.url("readonly")
    assert run(url, "SELECT count(*), count(class) FROM transactions") == [(60, 60)]
    assert run(url, "SELECT count(*) FROM labels") == [(240,)]
    assert run(url, wrong) == []


def test_a_session_that_looks_from_before_it_waited_is_refused(sessions: Sessions) -> None:
    sessions.one.set_session(isolation_level="REPEATABLE READ")
    with pytest.raises(errors.InvalidTransactionState, match="READ COMMITTED"):
        report(sessions.one, label_event("tx-0", 1, "analyst"))
