"""Reads the audit log: by filters, page by page, and as a chain to verify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, cast, column, func, select, table

from fraud_adapters.postgres.composed import fetch
from fraud_core.audit_chain import Entry

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

READ_AT_ONCE: Final = 5_000  # entries
# Of publishers of heads: two of them would give two heads the same number.
_LOCK: Final = 7234019850125

_a: Final = table("audit_log", *(column(field.name) for field in fields(Entry)))


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are meant; what is None does not restrict. The start is included, the end is not."""

    start: datetime | None = None
    end: datetime | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry as people read it."""

    entry_id: int
    recorded_at: datetime
    actor: str
    db_role: str
    action: str
    subject: str
    details: dict[str, Any]
    entry_hash: str


def read_page(cursor: Cursor, which: EntryFilter, before: int | None, limit: int) -> list[AuditEntry]:
    """The next entries from the newest to the oldest, with numbers below `before` if it is given.

    Entries are numbered without gaps, in the order in which they are committed, and never change.
    """
    columns = [_a.c[field.name] for field in fields(AuditEntry)][:-1]
    statement = select(*columns, func.encode(_a.c.entry_hash, "hex"))
    conditions = [
        _a.c[name] == value
        for name in ("actor", "action", "subject")
        if (value := getattr(which, name)) is not None
    ]
    if which.start is not None:
        conditions.append(_a.c.recorded_at >= which.start)
    if which.end is not None:
        conditions.append(_a.c.recorded_at < which.end)
    if before is not None:
        conditions.append(_a.c.entry_id < before)
    statement = statement.where(*conditions).order_by(_a.c.entry_id.desc()).limit(limit)
    return [AuditEntry(*row) for row in fetch(cursor, statement)]


def read_chain(cursor: Cursor, after: int = 0) -> Iterator[Entry]:
    """All entries with greater numbers than `after`, in the order of their numbers."""
    columns = [
        cast(_a.c.details, Text) if field.name == "details" else _a.c[field.name] for field in fields(Entry)
    ]
    while True:
        statement = select(*columns).where(_a.c.entry_id > after).order_by(_a.c.entry_id).limit(READ_AT_ONCE)
        rows = fetch(cursor, statement)
        # psycopg2 reads bytea as a memoryview.
        for row in rows:
            yield Entry(*row[:-2], *map(bytes, row[-2:]))
        if len(rows) < READ_AT_ONCE:
            return
        after = rows[-1][0]


def is_publisher(cursor: Cursor) -> bool:
    """Whether this session alone publishes heads, until its transaction ends."""
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    row = cursor.fetchone()
    return bool(row and row[0])
