"""The label ledger: append-only and idempotent."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg2.extras import execute_values

from fraud_core.labels import LabelEvent

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """The result for each event, by its position.

    Replayed: a label with this id and the same content exists, or came earlier in the batch. Conflict: a
    label with this id and other content exists; the event was not stored.
    """

    new_rows: list[int]
    replayed_rows: list[int]
    conflict_rows: list[int]


@dataclass(frozen=True, slots=True)
class PersonReport:
    """What a person found out about a transaction; `new_id` is a UUID for the label, if it is stored."""

    new_id: str
    transaction_id: str
    label: int
    note: str | None
    reporter: str


@dataclass(frozen=True, slots=True)
class SetLabel:
    """What came of a person's report.

    Attributes:
        label_id, reported_at: of the report as it is in the ledger.
        stored: false if the same person had reported the same before.
        class_now: what holds now; a source with more precedence may say otherwise.
        closed_case: the case that this report closed or decided differently, if there is one.
    """

    label_id: str
    reported_at: datetime
    stored: bool
    class_now: int | None
    closed_case: int | None


def set_label(cur: Cursor, report: PersonReport) -> SetLabel | None:
    """Store what a person says of a transaction, with all that follows from it, in the cursor's transaction.

    Returns:
        None if the transaction is unknown.
    """
    cur.execute(
        "SELECT label_id::text, reported_at, stored, class_now, closed_case"
        " FROM label_transaction(%s, %s, %s::smallint, %s, %s)",
        (report.new_id, report.transaction_id, report.label, report.note, report.reporter),
    )
    row = cur.fetchone()
    return SetLabel(*row) if row else None


def store_labels(cur: Cursor, events: Sequence[LabelEvent], actor: str | None = None) -> StoredLabels:
    """Append labels, set `transactions.class` from them, and record the batch in the audit chain.

    Runs in the cursor's transaction. The caller must commit after each batch: until then other sessions wait
    to write the audit chain, and to store transactions whose label arrived first.

    Args:
        actor: the actor in the audit chain; by default the role that is logged in.

    Raises:
        psycopg2.Error: the database does not know a source; nothing of the batch is stored.
    """
    first: dict[str, LabelEvent] = {}
    for event in events:
        first.setdefault(event.label_id, event)
    inserted = _insert_labels(cur, list(first.values()))
    known = {key: _content(first[key]) for key in inserted} | _stored(cur, first.keys() - inserted)
    new, replayed, conflicts = [], [], []
    for position, event in enumerate(events):
        if event.label_id in inserted:
            inserted.remove(event.label_id)
            new.append(position)
        elif known[event.label_id] == _content(event):
            replayed.append(position)
        else:
            conflicts.append(position)
    if new:
        new_events = [events[position] for position in new]
        apply_labels(cur, list({event.transaction_id for event in new_events}))
        _record_audit(cur, new_events, actor)
    return StoredLabels(new, replayed, conflicts)


def apply_labels(cur: Cursor, transaction_ids: Sequence[str]) -> int:
    """Bring the classes and disputes of these transactions up to date; gives how many classes changed.

    Runs in the cursor's transaction, and locks the transactions until its end.
    """
    cur.execute("SELECT apply_labels(%s)", (sorted(transaction_ids),))
    row = cur.fetchone()
    return int(row[0]) if row else 0


def refresh_classes(connection: Connection, limit: int) -> int:
    """Set `transactions.class` where the passing of time changes it, in a separate database transaction.

    It applies labels whose `reported_at` has been reached, then marks transactions as legitimate that were
    not reported within the configured time; the oldest first.

    Returns:
        How many of both were updated; if it equals `limit`, there may be more.

    Raises:
        ValueError: `limit` is not positive.
    """
    if limit < 1:
        raise ValueError(f"limit: must be at least 1, not {limit}")
    with connection, connection.cursor() as cur:
        cur.execute("SELECT refresh_classes(%s)", (limit,))
        row = cur.fetchone()
    return int(row[0]) if row else 0


# Rows are inserted in a fixed order, so that two sessions that store the same labels do not deadlock.
# An unknown source has no maturity: the null violates a constraint, which refuses the batch.
_INSERT_LABELS = """
    INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at, reported_by)
    SELECT e.label_id::uuid, e.transaction_id, e.label::smallint, e.source, e.reported_at::timestamptz,
           e.reported_at::timestamptz + s.maturity, e.reported_by::varchar
    FROM (VALUES %s) AS e (label_id, transaction_id, label, source, reported_at, reported_by)
    LEFT JOIN label_sources s ON s.source = e.source
    ORDER BY e.label_id
    ON CONFLICT (label_id) DO NOTHING RETURNING label_id::text
"""


def _insert_labels(cur: Cursor, events: Sequence[LabelEvent]) -> set[str]:
    rows = [(event.label_id, *_content(event)) for event in events]
    if not rows:
        return set()
    return {row[0] for row in execute_values(cur, _INSERT_LABELS, rows, page_size=len(rows), fetch=True)}


def _stored(cur: Cursor, label_ids: set[str]) -> dict[str, tuple[Any, ...]]:
    if not label_ids:
        return {}
    cur.execute(
        "SELECT label_id::text, transaction_id, label, source, reported_at, reported_by FROM labels"
        " WHERE label_id = ANY (%s::uuid[])",
        (list(label_ids),),
    )
    return {row[0]: row[1:] for row in cur.fetchall()}


def _content(event: LabelEvent) -> tuple[Any, ...]:
    return (event.transaction_id, event.label, event.source, event.reported_at, event.reported_by)


def _record_audit(cur: Cursor, events: Sequence[LabelEvent], actor: str | None) -> None:
    """Append one audit entry for a batch: the number of labels by source, and a digest of their content."""
    lines = sorted(
        "\t".join((*map(str, (e.label_id, e.transaction_id, e.label, e.source)), _utc(e))) for e in events
    )
    details = {
        "count": len(events),
        "frauds": sum(event.label for event in events),
        "sources": dict(Counter(event.source for event in events)),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }
    cur.execute(
        "SELECT audit_append(coalesce(%s, session_user), 'labels.stored', 'labels', %s)",
        (actor, json.dumps(details)),
    )


def _utc(event: LabelEvent) -> str:
    return event.reported_at.astimezone(UTC).isoformat()


@dataclass(frozen=True, slots=True)
class PersonLabel:
    """A label that a person reports from a case; `source` is one of the table `label_sources`."""

    label_id: str
    transaction_id: str
    label: int
    source: str
    reported_at: datetime
    reported_by: str


def source_exists(cur: Cursor, source: str) -> bool:
    """Whether labels may have this source."""
    cur.execute("SELECT 1 FROM label_sources WHERE source = %s", (source,))
    return cur.fetchone() is not None


def store_person_label(cur: Cursor, label: PersonLabel) -> None:
    """Append a person's label and set `transactions.class` from it, in the cursor's transaction.

    The caller appends the entry in the audit chain: it knows why the label was reported.
    """
    cur.execute(
        "INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at, reported_by)"
        " SELECT %s, %s, %s, s.source, %s, %s + s.maturity, %s FROM label_sources s WHERE s.source = %s",
        (
            label.label_id,
            label.transaction_id,
            label.label,
            label.reported_at,
            label.reported_at,
            label.reported_by,
            label.source,
        ),
    )
    cur.execute("SELECT apply_labels(%s)", ([label.transaction_id],))
