"""The label ledger, dead letters and the stream's position."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.dead_letters import DeadLetter, store_dead_letters
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.offsets import (
    OffsetMoved,
    StoredOffset,
    lock_partition,
    move_offset,
    read_offset,
    unlock_partition,
)
from fraud_core.labels import LabelEvent
from tests.support.stored_rows import START, Database, new_id, run
from tests.support.waiting import eventually


@pytest.fixture
def streaming(database: Database) -> Iterator[Connection]:
    with closing(connect(database.url("streaming"), "test")) as connection:
        yield connection


def test_labels_are_stored_once_and_recorded_once_a_batch(database: Database, streaming: Connection) -> None:
    events = [LabelEvent(new_id(), f"tx-{number}", number % 2, "chargeback", START) for number in range(6)]
    with streaming, streaming.cursor() as cursor:
        stored = store_labels(cursor, [*events, events[0], replace(events[1], label=0)])
    assert (stored.new_rows, stored.replayed_rows, stored.conflict_rows) == ([0, 1, 2, 3, 4, 5], [6], [7])
    with streaming, streaming.cursor() as cursor:
        again = store_labels(cursor, [*events, replace(events[2], source="analyst")])
        assert store_labels(cursor, []).new_rows == []
    assert (again.new_rows, again.replayed_rows, again.conflict_rows) == ([], [0, 1, 2, 3, 4, 5], [6])
    url = database.url("readonly")
    assert run(url, "SELECT count(*), min(matures_at - reported_at) > interval '0' FROM labels") == [
        (6, True)
    ]
    entries = run(url, "SELECT actor, details FROM audit_log WHERE action = 'labels.stored'")
    assert len(entries) == 1
    assert entries[0][0] == "fraud_streaming"
    assert entries[0][1] | {"sha256": ""} == {
        "count": 6,
        "frauds": 3,
        "sources": {"chargeback": 6},
        "sha256": "",
    }


def test_an_unknown_source_stops_the_batch(database: Database, streaming: Connection) -> None:
    good = LabelEvent(new_id(), "tx", 1, "analyst", START)
    bad = replace(good, label_id=new_id(), source="hearsay")  # type: ignore[arg-type]
    with pytest.raises(errors.IntegrityError), streaming:
        store_labels(streaming.cursor(), [good, bad])
    assert run(database.url("readonly"), "SELECT FROM labels") == []


def test_dead_letters_are_stored_once_whatever_they_hold(database: Database, streaming: Connection) -> None:
    dead_letters = [
        DeadLetter("t", 0, 7, b"key", b"\x00\xff not json", 11, "not_json", "a \x00 and a \udcff"),
        DeadLetter("t", 0, 8, None, None, 10_000_000, "too_large"),
    ]
    for new in (2, 0):
        with streaming, streaming.cursor() as cursor:
            assert store_dead_letters(cursor, dead_letters, "id-1") == new
    rows = run(
        database.url("readonly"), "SELECT record_offset, payload, payload_bytes, detail FROM dead_letters"
    )
    assert [(row[0], row[1] and bytes(row[1]), row[2], row[3]) for row in rows] == [
        (7, b"\x00\xff not json", 11, "a \ufffd and a ?"),
        (8, None, 10_000_000, None),
    ]
    with streaming, streaming.cursor() as cursor:
        assert store_dead_letters(cursor, [], "id-1") == 0
        # The topic was made again: its offsets begin anew.
        assert store_dead_letters(cursor, dead_letters, "id-2") == 2


def test_the_position_moves_only_from_where_it_was_read(streaming: Connection) -> None:
    with streaming, streaming.cursor() as cursor:
        assert read_offset(cursor, "t", 0) is None
        move_offset(cursor, "t", 0, "id-1", None, 100)
        move_offset(cursor, "t", 1, "id-1", None, 5)
        move_offset(cursor, "t", 0, "id-1", 100, 250)
        assert read_offset(cursor, "t", 0) == StoredOffset("id-1", 250)
        assert read_offset(cursor, "t", 1) == StoredOffset("id-1", 5)
    for topic_id, expected in (("id-1", None), ("id-1", 100), ("id-2", 250)):
        with pytest.raises(OffsetMoved), streaming, streaming.cursor() as cursor:
            move_offset(cursor, "t", 0, topic_id, expected, 300)
    with pytest.raises(ValueError, match="back"):
        move_offset(streaming.cursor(), "t", 0, "id-1", 250, 249)


def test_of_two_that_read_the_same_position_one_moves_it(database: Database, streaming: Connection) -> None:
    with streaming, streaming.cursor() as cursor:
        move_offset(cursor, "t", 0, "id", None, 0)
    with closing(connect(database.url("streaming"), "other")) as other:
        move_offset(streaming.cursor(), "t", 0, "id", 0, 10)
        streaming.commit()
        with pytest.raises(OffsetMoved):
            move_offset(other.cursor(), "t", 0, "id", 0, 20)


def test_a_partition_is_locked_until_the_session_ends(database: Database, streaming: Connection) -> None:
    with closing(connect(database.url("streaming"), "holder")) as holder:
        assert lock_partition(holder, "t", 3)
        holder.rollback()
        assert not lock_partition(streaming, "t", 3)
        assert lock_partition(streaming, "t", 4)
        assert lock_partition(streaming, "other", 3)
    # The server ends a session a moment after its connection was closed.
    assert eventually(lambda: lock_partition(streaming, "t", 3))
    unlock_partition(streaming, "t", 3)
    with closing(connect(database.url("streaming"), "next")) as later:
        assert lock_partition(later, "t", 3)
