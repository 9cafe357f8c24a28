"""Heads of the audit log in a real object store: every kind of tampering by a superuser is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from config import constants
from config.settings import ObjectStoreSettings
from fraud_adapters.audit_heads import PREFIX, HeadPublisher, HeadsUnusable, Verification, key_of, verify
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.audit_entries import read_chain
from fraud_core.audit_chain import Head, follow
from tests.support import forked
from tests.support.stored_rows import Database, run

KEY: Final = b"a key of the tests alone"
OFF: Final = "ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only; "
ON: Final = "; ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only"
# All later hashes computed anew, the end included: audit_verify() then finds nothing.
RECOMPUTE: Final = """
DO $$
DECLARE
    entry audit_log; before bytea := sha256('');
BEGIN
    FOR entry IN SELECT * FROM audit_log ORDER BY entry_id LOOP
        entry.previous_hash := before;
        before := audit_hash(entry);
        UPDATE audit_log SET previous_hash = entry.previous_hash, entry_hash = before
        WHERE entry_id = entry.entry_id;
    END LOOP;
    UPDATE audit_head
    SET entry_id = coalesce((SELECT max(a.entry_id) FROM audit_log a), 0), entry_hash = before;
END $$
"""


@pytest.fixture
def store(object_store: ObjectStoreSettings) -> Iterator[ObjectStore]:
    bucket = ObjectStore(object_store, constants.BUCKET_RUNS)
    bucket.ensure_bucket()
    bucket.delete(list(bucket.list(PREFIX)))
    yield bucket
    bucket.delete(list(bucket.list(PREFIX)))


@contextmanager
def reading(database: Database) -> Iterator[Any]:
    with (
        closing(connect(database.url("readonly"), "test")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def append(database: Database, entries: int) -> int:
    """Append entries with all kinds of characters; gives the last one's number."""
    details = json.dumps({"n": 1.0, "b": [None, True, 'ä\u0001\t"\\\u007f😀'], "a": {"z": 1e3, "": ""}})
    last = 0
    for number in range(entries):
        subject = f'client-{number}\n\b\f\r\t"\\ü\u2028'
        [(last,)] = run(
            database.url("api"), "SELECT audit_append(%s, 'x', %s, %s)", "ä'\u0002", subject, details
        )
    return last


def publish(database: Database, publisher: HeadPublisher, now: datetime | None = None) -> Head | None:
    with reading(database) as cursor:
        return publisher.publish(cursor, now or datetime.now(UTC))


def verified(database: Database, store: ObjectStore, now: datetime | None = None) -> Verification:
    with reading(database) as cursor:
        return verify(cursor, store, KEY, now or datetime.now(UTC))


@pytest.fixture
def publisher(database: Database, store: ObjectStore) -> HeadPublisher:
    """With two heads: after some entries, and at the end."""
    made = HeadPublisher(store, KEY)
    for _ in range(2):
        append(database, 3)
        assert publish(database, made)
    return made


def test_hashes_are_those_of_the_database(database: Database) -> None:
    last = append(database, 4)
    with reading(database) as cursor:
        *_, end = follow(read_chain(cursor))
    assert end.entry_id == last
    [(number, hash_in_database)] = run(database.url("owner"), "SELECT entry_id, entry_hash FROM audit_head")
    assert (number, bytes(hash_in_database)) == (end.entry_id, end.entry_hash)


def test_a_head_is_added_when_the_log_has_grown(
    database: Database, store: ObjectStore, publisher: HeadPublisher
) -> None:
    now = datetime.now(UTC)
    assert publish(database, publisher, now) is None
    last = append(database, 1)
    third = publish(database, publisher, now)
    assert third is not None
    assert (third.number, third.entry_id) == (3, last)
    assert store.list(PREFIX) == [key_of(1), key_of(2), key_of(3)]
    assert verified(database, store) == Verification(last, 3, third, [])
    other = HeadPublisher(store, KEY)  # another process, which finds what was published
    assert publish(database, other, now) is None
    fourth = publish(database, other, now + timedelta(hours=2))
    assert fourth is not None
    assert (fourth.number, fourth.entry_id, fourth.previous) == (4, last, third.signature)
    append(database, 1)
    fifth = publish(database, publisher, now + timedelta(hours=2))
    assert fifth is not None
    assert fifth.number == 5  # the first process has seen the other's head
    assert verified(database, store, now + timedelta(hours=2)).problems == []


def test_only_one_process_publishes_at_a_time(
    database: Database, store: ObjectStore, publisher: HeadPublisher
) -> None:
    append(database, 1)
    with reading(database) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(7234019850125)")
        assert publish(database, publisher) is None
    assert publish(database, publisher) is not None


TAMPERING: Final = {
    "edit": ("UPDATE audit_log SET actor = 'nobody' WHERE entry_id = {last} - 1", "does not match its hash"),
    "reorder": (
        "UPDATE audit_log SET entry_id = -1 WHERE entry_id = {last} - 1;"
        "UPDATE audit_log SET entry_id = {last} - 1 WHERE entry_id = {last};"
        "UPDATE audit_log SET entry_id = {last} WHERE entry_id = -1",
        "does not follow",
    ),
    "cut tail": (
        "DELETE FROM audit_log WHERE entry_id = {last}; UPDATE audit_head SET (entry_id, entry_hash) ="
        " (SELECT entry_id, entry_hash FROM audit_log ORDER BY entry_id DESC LIMIT 1)",
        "entries were cut off",
    ),
    "recomputed": (
        "UPDATE audit_log SET actor = 'nobody' WHERE entry_id = {last} - 1;" + RECOMPUTE,
        "vouches for",
    ),
    "recomputed and cut": (
        "DELETE FROM audit_log WHERE entry_id > {last} - 2;"
        "UPDATE audit_log SET actor = 'nobody' WHERE entry_id = 1;" + RECOMPUTE,
        "vouches for",
    ),
    "everything removed": ("DELETE FROM audit_log;" + RECOMPUTE, "entries were cut off"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_what_a_superuser_changes_is_found(
    database: Database, store: ObjectStore, publisher: HeadPublisher, name: str
) -> None:
    statement, sentence = TAMPERING[name]
    last = append(database, 1)
    publish(database, publisher)
    run(database.url("admin"), OFF + statement.format(last=last) + ON)
    problems = verified(database, store).problems
    assert problems and any(sentence in problem for problem in problems), problems
    if name in {"cut tail", "recomputed", "recomputed and cut", "everything removed"}:
        # The chain alone fits: the database itself finds nothing.
        assert run(database.url("readonly"), "SELECT * FROM audit_verify()") == []
    append(database, 1)
    for one in () if name == "edit" else (publisher, HeadPublisher(store, KEY)):
        with pytest.raises(HeadsUnusable):
            publish(database, one)  # nothing vouches for the log from here on
    assert len(store.list(PREFIX)) == 3


def test_no_head_vouches_for_what_was_changed_since_the_last_one(
    database: Database, store: ObjectStore, publisher: HeadPublisher
) -> None:
    last = append(database, 2)
    edit = f"UPDATE audit_log SET actor = 'nobody' WHERE entry_id = {last - 1}"
    run(database.url("admin"), OFF + edit + ON)
    with pytest.raises(HeadsUnusable, match=f"entry {last - 1}: its content does not match"):
        publish(database, publisher)


def test_heads_that_were_tampered_with_are_found(
    database: Database, store: ObjectStore, publisher: HeadPublisher
) -> None:
    first = Head.from_json(store.get_bytes(key_of(1)))
    store.put_bytes(key_of(1), replace(first, entry_id=2).to_json())
    assert "head 1 is not signed" in verified(database, store).problems[0]
    store.put_bytes(key_of(1), b"{}")
    assert "not a head" in verified(database, store).problems[0]
    store.delete([key_of(1)])
    assert "heads before head 2 are missing" in verified(database, store).problems[0]
    store.delete([key_of(2)])
    assert "no head is published" in verified(database, store).problems[0]
    append(database, 1)
    with pytest.raises(HeadsUnusable, match="not a head"):
        store.put_bytes(key_of(9), b"{}")
        publish(database, HeadPublisher(store, KEY))


def test_another_key_verifies_nothing(
    database: Database, store: ObjectStore, publisher: HeadPublisher
) -> None:
    with reading(database) as cursor:
        found = verify(cursor, store, b"another key than that", datetime.now(UTC))
    assert "not signed by this key" in found.problems[0]
    assert found.last_head is None


def test_entries_without_a_head_are_said_after_a_while(
    database: Database, store: ObjectStore, publisher: HeadPublisher
) -> None:
    append(database, 2)
    now = datetime.now(UTC)
    assert verified(database, store, now).problems == []
    assert "2 entries came after it" in verified(database, store, now + timedelta(minutes=11)).problems[0]


def test_the_command_verifies_and_names_what_it_finds(
    database: Database, store: ObjectStore, object_store: ObjectStoreSettings
) -> None:
    append(database, 2)
    environment = {
        "APP_ENV": "testing",
        "DATABASE_URL": database.url("readonly"),
        "S3_ENDPOINT_URL": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": object_store.aws_secret_access_key.get_secret_value(),
        "AUDIT_HEAD_KEY": KEY.decode(),
    }

    def command(verb: str, **changes: str) -> Any:
        return forked.run("fraud_adapters.audit_heads", verb, env=environment | changes)

    published = command("publish")
    assert published.returncode == 0, published.stderr
    assert json.loads(published.stdout)["number"] == 1
    whole = json.loads(command("verify").stdout)
    assert (whole["status"], whole["heads"], whole["last_head_entry"]) == ("done", 1, whole["entries"])
    run(database.url("admin"), OFF + "UPDATE audit_log SET actor = 'nobody' WHERE entry_id = 1" + ON)
    broken = command("verify")
    assert broken.returncode == 1
    assert "The log is broken at entry 1: its content does not match its hash." in broken.stderr
    assert command("verify", AUDIT_HEAD_KEY="").returncode == 2


def test_the_end_of_an_empty_log_is_not_published(store: ObjectStore, database: Database) -> None:
    run(database.url("admin"), OFF + "DELETE FROM audit_log;" + RECOMPUTE + ON)
    assert publish(database, HeadPublisher(store, KEY)) is None
    assert verified(database, store) == Verification(0, 0, None, [])
