"""The audit chain shows what was tampered with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from config import constants
from fraud_db.upgrade import engine
from fraud_db.verify import broken_chain
from tests.support.stored_rows import Database, run

APPEND = 'SELECT audit_append(%s, \'client.created\', %s, \'{"scopes": ["predict"], "n": 1.0}\')'
OFF = "ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only; "
ON = "; ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only"


def first_broken(database: Database) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in run(database.url("readonly"), "SELECT * FROM audit_verify()")]


def audit_problems(database: Database) -> list[str]:
    """What `verify` says of the chain, without making a database to compare tables with."""
    with engine(database.url("owner")).connect() as connection:
        return broken_chain(connection)


def filled(database: Database) -> int:
    """Append five entries; gives the last one's number."""
    for number in range(5):
        last = run(database.url("api"), APPEND, "admin", f"client-{number}")[0][0]
    return int(last)


def test_who_says_so_is_recorded_with_the_role_that_logged_in(database: Database) -> None:
    for service in ("producer", "streaming", "api", "trainer"):
        run(database.url(service), APPEND, "somebody", service)
    rows = run(
        database.url("readonly"), "SELECT subject, actor, db_role FROM audit_log WHERE actor = 'somebody'"
    )
    assert sorted(rows) == sorted(
        (service, "somebody", constants.SERVICE_ROLES[service])
        for service in ("producer", "streaming", "api", "trainer")
    )
    assert urlsplit(database.url("api")).username == constants.SERVICE_ROLES["api"]


def test_a_whole_chain_is_whole_in_any_time_zone(database: Database) -> None:
    filled(database)
    assert first_broken(database) == []
    assert run(database.url("readonly"), "SET TimeZone = 'Asia/Kolkata'; SELECT * FROM audit_verify()") == []
    assert audit_problems(database) == []


@pytest.mark.parametrize(
    ("tampering", "broken", "problem"),
    [
        ("UPDATE audit_log SET actor = 'nobody' WHERE entry_id = {last} - 2", -2, "content"),
        ("UPDATE audit_log SET details = '{{}}' WHERE entry_id = {last} - 2", -2, "content"),
        ("UPDATE audit_log SET db_role = 'x' WHERE entry_id = {last} - 1", -1, "content"),
        (
            "UPDATE audit_log a SET actor = 'x', entry_hash = audit_hash(a) WHERE entry_id = {last} - 2;"
            "UPDATE audit_log a SET entry_hash = audit_hash(a) WHERE entry_id = {last} - 2",
            -1,
            "does not follow",
        ),
        ("DELETE FROM audit_log WHERE entry_id = {last} - 2", -1, "missing"),
        ("DELETE FROM audit_log WHERE entry_id = {last}", 0, "end of the chain"),
        ("TRUNCATE audit_log", 0, "end of the chain"),
        ("DELETE FROM audit_head", None, "end is unknown"),
        (
            "INSERT INTO audit_log SELECT entry_id + 1, recorded_at, 'x', db_role, action, subject, details,"
            " entry_hash, entry_hash FROM audit_log WHERE entry_id = {last}",
            0,
            "",
        ),
    ],
)
def test_tampering_is_found(database: Database, tampering: str, broken: int | None, problem: str) -> None:
    last = filled(database)
    run(database.url("owner"), OFF + tampering.format(last=last) + ON)
    position = first_broken(database)
    assert position, "tampering went unnoticed"
    assert problem in position[0][1]
    assert position[0][0] == (0 if broken is None else last + broken)
    assert any("audit log is broken" in sentence for sentence in audit_problems(database))


def test_writers_at_once_make_one_chain(database: Database) -> None:
    urls = [database.url(service) for service in ("producer", "streaming", "api", "trainer")] * 5
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda url: run(url, APPEND, "many", "x")[0][0], urls))
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 20))
    assert first_broken(database) == []


def test_a_rolled_back_entry_leaves_no_gap(database: Database) -> None:
    before = filled(database)
    run(database.url("api"), "SELECT audit_append('a', 'b', 'c', '{}'); ROLLBACK")
    assert filled(database) == before + 5
    assert first_broken(database) == []
