"""Stalled holders of a partition's lock lose it, against a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import psycopg2
import pytest

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.offsets import lock_partition, move_offset
from fraud_adapters.postgres.stalled_holders import StalledHolder, check_holder
from tests.support.stored_rows import Database, run
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

TOPIC = "the-topic"
PATIENCE_S = 60.0

Session = Callable[..., "Connection"]


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with ExitStack() as opened:

        def one_more(name: str = "holder", role: str = "streaming") -> Connection:
            return opened.enter_context(closing(connect(database.url(role), name)))

        yield one_more


def move(conn: Connection, expected: int | None, new: int) -> None:
    with conn, conn.cursor() as cur:
        move_offset(cur, TOPIC, 0, "id", expected, new)


def challenged(conn: Connection) -> StalledHolder:
    holder = check_holder(conn, TOPIC, 0, PATIENCE_S)
    assert holder is not None
    return holder


def pass_time(database: Database, seconds: float) -> None:
    """As if the holder had been seen so much earlier: nobody has to wait, and no busy machine is late."""
    run(
        database.url("owner"),
        "UPDATE stream_stalls SET seen_at = seen_at - %s * interval '1 second' RETURNING 1",
        seconds,
    )


def lives(conn: Connection) -> bool:
    try:
        with conn.cursor() as cur:
            cur.execute("SELECT 1")
        conn.rollback()
    except psycopg2.OperationalError:
        return False
    return True


def test_a_holder_that_stands_still_loses_its_lock(database: Database, session: Session) -> None:
    holder, other = session("the holder"), session()
    assert lock_partition(holder, TOPIC, 0)
    first = challenged(other)
    assert (first.session, first.ended) == ("the holder", False)
    assert first.stalled_seconds < PATIENCE_S
    assert lives(holder)
    pass_time(database, PATIENCE_S)
    assert challenged(other).ended
    assert not lives(holder)
    assert lock_partition(other, TOPIC, 0)


def test_a_holder_whose_position_moves_keeps_it(database: Database, session: Session) -> None:
    holder, other = session(), session()
    assert lock_partition(holder, TOPIC, 0)
    challenged(other)
    for expected in (None, 1, 2):
        pass_time(database, 0.7 * PATIENCE_S)
        move(holder, expected, (expected or 0) + 1)
        assert not challenged(other).ended
    assert lives(holder)


def test_the_next_holder_of_the_same_position_has_twice_the_time(
    database: Database, session: Session
) -> None:
    other = session()
    patience = PATIENCE_S
    for _ in range(3):
        holder = session()
        assert lock_partition(holder, TOPIC, 0)
        challenged(other)
        pass_time(database, 0.8 * patience)
        assert not challenged(other).ended
        pass_time(database, 0.3 * patience)
        assert challenged(other).ended
        assert not lives(holder)
        patience *= 2
    move(other, None, 10)
    assert lock_partition(session(), TOPIC, 0)
    assert challenged(other).patience_seconds == PATIENCE_S


def test_nobody_and_other_roles_are_not_challenged(session: Session) -> None:
    other = session()
    assert check_holder(other, TOPIC, 0, 0.0) is None
    stranger = session(role="producer")
    assert lock_partition(stranger, TOPIC, 0)
    assert check_holder(other, TOPIC, 0, 0.0) is None
    assert lives(stranger)
    assert lock_partition(other, TOPIC, 1)
    assert check_holder(other, TOPIC, 1, 0.0) is None, "its own lock"


def test_a_transaction_that_nobody_continues_is_ended_by_the_server(database: Database) -> None:
    with closing(connect(database.url("streaming"), "frozen", idle_in_transaction_s=0.3)) as frozen:
        with frozen.cursor() as cur:
            cur.execute("SELECT 1")
        frozen_sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'frozen'"
        assert eventually(lambda: not run(database.url("admin"), frozen_sessions))
        assert not lives(frozen)
