"""The tables `cases` and `case_events`: what people work on, and what happened to it.

Every action locks its case, asks `fraud_core.cases` what becomes of it, and is stored with its event in the
caller's transaction; a label also with its entries in the ledger and in the audit chain.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from fraud_adapters.postgres import audit
from fraud_adapters.postgres.labels import PersonLabel, source_exists, store_person_label
from fraud_core.cases import (
    EVENTS,
    Action,
    ActionRefused,
    CaseRules,
    CaseState,
    CaseStatus,
    Origin,
    Person,
    change,
    label_source,
)

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SYSTEM: Final = "system"  # the actor of what nobody did


@dataclass(frozen=True, slots=True)
class Case:
    """A case with its transaction's decision; the prediction's fields are None where nothing decided."""

    case_id: int
    transaction_id: str
    status: CaseStatus
    priority: float
    sampling_share: float | None
    due_at: datetime | None
    opened_at: datetime
    amount: float | None
    event_time: datetime
    card_id: str | None
    merchant_id: str | None
    source: str
    transaction_class: int | None
    class_implied: bool | None
    score: float | None
    decision: str | None
    is_fraud_predicted: bool | None
    model_version: str | None
    prediction_time: datetime | None
    role: str | None
    reasons: Any
    rules_fired: list[str] | None
    policy_version: str | None
    read_at: datetime

    @property
    def holder(self) -> str | None:
        return self.status.holder(self.read_at)

    @property
    def is_overdue(self) -> bool:
        return self.due_at is not None and self.due_at < self.read_at


@dataclass(frozen=True, slots=True)
class CaseEvent:
    """Something that happened to a case."""

    occurred_at: datetime
    actor: str
    kind: str
    details: Any


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """A case in a list."""

    case_id: int
    transaction_id: str
    state: str
    origin: str
    escalated: bool
    priority: float
    due_at: datetime | None
    assignee: str | None
    locked_until: datetime | None
    decision: int | None
    decided_by: str | None
    opened_at: datetime
    closed_at: datetime | None
    amount: float | None
    score: float | None
    is_overdue: bool


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """How the queue stands.

    Attributes:
        median_wait_seconds: from opening to decision, of the cases closed within the last day.
    """

    open: int
    assigned: int
    escalated: int
    disputed: int
    sampled: int
    overdue: int
    oldest_at: datetime | None
    closed_today: int
    frauds_today: int
    median_wait_seconds: float | None


# --- Opening --------------------------------------------------------------------------------------
def open_for_person(cursor: Cursor, transaction_id: str, person: Person) -> int | None:
    """The case of a transaction, which is opened if there is none; None if there is no such transaction."""
    cursor.execute(
        "WITH opened AS ("
        " INSERT INTO cases (transaction_id, origin, priority)"
        " SELECT x.transaction_id, 'opened', coalesce(p.score, 0) * coalesce(x.amount, 1)"
        " FROM transactions x LEFT JOIN predictions p ON p.transaction_id = x.transaction_id AND p.deciding"
        " WHERE x.transaction_id = %s ON CONFLICT (transaction_id) DO NOTHING RETURNING case_id)"
        " SELECT case_id FROM opened",
        (transaction_id,),
    )
    row = cursor.fetchone()
    if row is not None:
        _record(cursor, row[0], person.username, "opened", {"origin": Origin.OPENED})
        return int(row[0])
    return case_of(cursor, transaction_id)


def case_of(cursor: Cursor, transaction_id: str) -> int | None:
    """The case of a transaction, if there is one."""
    cursor.execute("SELECT case_id FROM cases WHERE transaction_id = %s", (transaction_id,))
    row = cursor.fetchone()
    return int(row[0]) if row else None


# --- Actions --------------------------------------------------------------------------------------
def take_next(cursor: Cursor, person: Person, rules: CaseRules) -> int | None:
    """The case that a person works on next; None if the queue is empty for them.

    What is assigned to them comes first, then the queue: escalated cases, then by priority. Nobody else gets
    the case until the lock ends.
    """
    cursor.execute(
        "SELECT case_id FROM cases WHERE assignee = %s AND state = 'assigned'"
        " AND (locked_until IS NULL OR locked_until > clock_timestamp())"
        " ORDER BY locked_until DESC NULLS LAST, escalated DESC, priority DESC, case_id LIMIT 1",
        (person.username,),
    )
    row = cursor.fetchone()
    if row is None:
        cursor.execute(
            _TAKE,
            {
                "person": person.username,
                "leads": person.role.leads,
                "lock": rules.lock,
                "skip": rules.skip,
            },
        )
        row = cursor.fetchone()
        if row is None:
            return None
        _record(cursor, row[0], person.username, EVENTS[Action.TAKE], {})
    return int(row[0])


# Cases that another session has locked are skipped, so that no two people wait for the same one.
_TAKE: Final = """
    UPDATE cases SET state = 'assigned', assignee = %(person)s, locked_until = clock_timestamp() + %(lock)s,
        updated_at = clock_timestamp()
    WHERE case_id = (
        SELECT c.case_id FROM cases c
        WHERE c.state <> 'closed' AND (c.state = 'open' OR c.locked_until <= clock_timestamp())
          AND (%(leads)s OR NOT c.escalated AND c.origin <> 'disputed')
          AND NOT EXISTS (
              SELECT FROM case_events e WHERE e.actor = %(person)s AND e.case_id = c.case_id
              AND e.kind = 'skipped' AND e.occurred_at > clock_timestamp() - %(skip)s)
        ORDER BY c.escalated DESC, c.priority DESC, c.case_id LIMIT 1 FOR UPDATE OF c SKIP LOCKED)
    RETURNING case_id
"""


def act(
    cursor: Cursor,
    case_id: int,
    action: Action,
    person: Person,
    rules: CaseRules,
    *,
    label: int | None = None,
    to: str | None = None,
    note: str | None = None,
) -> CaseStatus:
    """Carry out an action on a case, with its event; a label also with its entry in the ledger.

    The same label by the same person again changes nothing, so that a request may be repeated.

    Raises:
        ActionRefused: there is no such case, or it does not allow the action.
    """
    before, transaction_id, now = _lock(cursor, case_id)
    if action is Action.LABEL and (before.decided_by, before.decision) == (person.username, label):
        return before
    after = change(before, action, person, now, rules, label=label, to=to)
    details: dict[str, Any] = {key: value for key, value in (("to", to), ("note", note)) if value is not None}
    label_id = None
    if action is Action.LABEL and label is not None:
        stored = PersonLabel(
            str(uuid.uuid4()), transaction_id, label, _source(cursor, before.origin), now, person.username
        )
        _store_label(cursor, case_id, stored)
        label_id = stored.label_id
        details |= {"label": label, "label_id": label_id, "source": stored.source}
    if after != before:
        _store(cursor, case_id, after, label_id)
    if action is not Action.NOTE or note:
        _record(cursor, case_id, person.username, EVENTS[action], details)
    return after


def _lock(cursor: Cursor, case_id: int) -> tuple[CaseStatus, str, datetime]:
    cursor.execute(
        "SELECT state, origin, assignee, locked_until, escalated, decision, decided_by, closed_at,"
        " transaction_id FROM cases WHERE case_id = %s FOR UPDATE",
        (case_id,),
    )
    row = cursor.fetchone()
    if row is None:
        raise ActionRefused("There is no such case.")
    # Not before the wait for the row.
    cursor.execute("SELECT clock_timestamp()")
    moment = cursor.fetchone()
    assert moment is not None
    return _status(row[:8]), row[8], moment[0]


def _store(cursor: Cursor, case_id: int, after: CaseStatus, label_id: str | None) -> None:
    cursor.execute(
        "UPDATE cases SET state = %s, assignee = %s, locked_until = %s, escalated = %s, decision = %s,"
        " decided_by = %s, closed_at = %s, label_id = coalesce(%s::uuid, label_id),"
        " updated_at = clock_timestamp() WHERE case_id = %s",
        (
            after.state,
            after.assignee,
            after.locked_until,
            after.escalated,
            after.decision,
            after.decided_by,
            after.closed_at,
            label_id,
            case_id,
        ),
    )


def _source(cursor: Cursor, origin: Origin) -> str:
    """The source of the label, or an analyst's where the installation does not have that source."""
    source = label_source(origin)
    return source if source_exists(cursor, source) else label_source(Origin.FLAGGED)


def _store_label(cursor: Cursor, case_id: int, label: PersonLabel) -> None:
    store_person_label(cursor, label)
    details = {
        "label": label.label,
        "source": label.source,
        "label_id": label.label_id,
        "case_id": case_id,
    }
    subject = f"transaction {label.transaction_id}"
    audit.append(cursor, label.reported_by, "label.reported", subject, details)


def _record(cursor: Cursor, case_id: int, actor: str, kind: str, details: Mapping[str, Any]) -> None:
    cursor.execute(
        "INSERT INTO case_events (case_id, actor, kind, details, occurred_at)"
        " VALUES (%s, %s, %s, %s, clock_timestamp())",
        (case_id, actor, kind, json.dumps(details)),
    )


# --- Reading --------------------------------------------------------------------------------------
_CASE: Final = """
    SELECT c.state, c.origin, c.assignee, c.locked_until, c.escalated, c.decision, c.decided_by, c.closed_at,
        c.case_id, c.transaction_id, c.priority, c.sampling_share, c.due_at, c.opened_at,
        x.amount::float8, x.event_time, x.card_id, x.merchant_id, x.source, x.class, x.class_implied,
        p.score, p.decision, p.is_fraud_predicted, p.model_version, p.prediction_time, p.role, p.reasons,
        p.rules_fired, p.policy_version, clock_timestamp()
    FROM cases c JOIN transactions x ON x.transaction_id = c.transaction_id
    LEFT JOIN predictions p ON p.transaction_id = c.transaction_id AND p.deciding
    WHERE c.case_id = %s
"""


def read_case(cursor: Cursor, case_id: int) -> Case | None:
    cursor.execute(_CASE, (case_id,))
    row = cursor.fetchone()
    return None if row is None else Case(row[8], row[9], _status(row[:8]), *row[10:])


def events_of(cursor: Cursor, case_id: int, limit: int = 200) -> list[CaseEvent]:
    """The latest events, the newest first."""
    cursor.execute(
        "SELECT occurred_at, actor, kind, details FROM case_events WHERE case_id = %s"
        " ORDER BY event_id DESC LIMIT %s",
        (case_id, limit),
    )
    return [CaseEvent(*row) for row in cursor.fetchall()]


def last_decision(cursor: Cursor, person: Person, within: timedelta) -> tuple[int, int] | None:
    """The case that a person closed last and its decision, if that was within this time and still stands."""
    cursor.execute(
        "SELECT case_id, decision FROM cases WHERE decided_by = %s AND state = 'closed'"
        " AND closed_at > clock_timestamp() - %s ORDER BY closed_at DESC LIMIT 1",
        (person.username, within),
    )
    row = cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else None


def decided_today(cursor: Cursor, person: Person, since: datetime) -> int:
    """How many cases a person has decided since then."""
    cursor.execute(
        "SELECT count(*) FROM cases WHERE decided_by = %s AND state = 'closed' AND closed_at >= %s",
        (person.username, since),
    )
    row = cursor.fetchone()
    return int(row[0]) if row else 0


_SUMMARY: Final = """
    SELECT c.case_id, c.transaction_id, c.state, c.origin, c.escalated, c.priority, c.due_at, c.assignee,
        c.locked_until, c.decision, c.decided_by, c.opened_at, c.closed_at, x.amount::float8, p.score,
        c.state <> 'closed' AND coalesce(c.due_at < clock_timestamp(), false)
    FROM cases c JOIN transactions x ON x.transaction_id = c.transaction_id
    LEFT JOIN predictions p ON p.transaction_id = c.transaction_id AND p.deciding
"""


def waiting_cases(
    cursor: Cursor,
    limit: int,
    *,
    kind: str | None = None,
    assignee: str | None = None,
    after: tuple[bool, float, int] | None = None,
) -> list[CaseSummary]:
    """Cases that are not closed, in the order of the queue.

    Args:
        kind: only `escalated`, `overdue`, `assigned`, or those of an origin.
        assignee: only those assigned to this person.
        after: escalated, priority and id of the case before the first one.
    """
    conditions = ["c.state <> 'closed'"]
    values: dict[str, Any] = {"limit": limit, "kind": kind, "assignee": assignee}
    by_kind = {
        "escalated": "c.escalated",
        "overdue": "c.due_at < clock_timestamp()",
        "assigned": "c.state = 'assigned'",
    }
    if kind is not None:
        conditions.append(by_kind.get(kind, "c.origin = %(kind)s"))
    if assignee is not None:
        conditions.append("c.state = 'assigned' AND c.assignee = %(assignee)s")
    if after is not None:
        values |= {"escalated": after[0], "priority": after[1], "case_id": after[2]}
        conditions.append(
            "(c.escalated < %(escalated)s OR c.escalated = %(escalated)s AND (c.priority < %(priority)s"
            " OR c.priority = %(priority)s AND c.case_id > %(case_id)s))"
        )
    order = " ORDER BY c.escalated DESC, c.priority DESC, c.case_id LIMIT %(limit)s"
    cursor.execute(f"{_SUMMARY} WHERE {' AND '.join(conditions)}{order}", values)
    return [CaseSummary(*row) for row in cursor.fetchall()]


def closed_cases(
    cursor: Cursor, limit: int, *, decided_by: str | None = None, before: tuple[datetime, int] | None = None
) -> list[CaseSummary]:
    """Closed cases, the newest decision first."""
    conditions = ["c.state = 'closed'"]
    values: dict[str, Any] = {"limit": limit, "decided_by": decided_by}
    if decided_by is not None:
        conditions.append("c.decided_by = %(decided_by)s")
    if before is not None:
        values |= {"closed_at": before[0], "case_id": before[1]}
        conditions.append("(c.closed_at, c.case_id) < (%(closed_at)s, %(case_id)s)")
    order = " ORDER BY c.closed_at DESC, c.case_id DESC LIMIT %(limit)s"
    cursor.execute(f"{_SUMMARY} WHERE {' AND '.join(conditions)}{order}", values)
    return [CaseSummary(*row) for row in cursor.fetchall()]


_HEALTH: Final = """
    WITH waiting AS (
        SELECT count(*) FILTER (WHERE state = 'open' OR locked_until <= clock_timestamp()) AS open,
            count(*) FILTER (WHERE state = 'assigned' AND coalesce(locked_until > clock_timestamp(), true))
                AS assigned,
            count(*) FILTER (WHERE escalated) AS escalated,
            count(*) FILTER (WHERE origin = 'disputed') AS disputed,
            count(*) FILTER (WHERE origin = 'sampled') AS sampled,
            count(*) FILTER (WHERE due_at < clock_timestamp()) AS overdue,
            min(opened_at) AS oldest
        FROM cases WHERE state <> 'closed'
    ), closed AS (
        SELECT count(*) AS closed, count(*) FILTER (WHERE decision = 1) AS frauds,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - opened_at)) AS wait
        FROM cases WHERE state = 'closed' AND closed_at > clock_timestamp() - interval '1 day'
    )
    SELECT open, assigned, escalated, disputed, sampled, overdue, oldest, closed, frauds, wait
    FROM waiting, closed
"""


def queue_health(cursor: Cursor) -> QueueHealth:
    cursor.execute(_HEALTH)
    row = cursor.fetchone()
    assert row is not None
    return QueueHealth(*row)


def _status(row: tuple[Any, ...]) -> CaseStatus:
    return CaseStatus(CaseState(row[0]), Origin(row[1]), *row[2:])
