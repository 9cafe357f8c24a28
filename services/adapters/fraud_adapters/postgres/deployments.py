"""The tables `deployments` and `deployment_events`: releases of model versions and what happened to them.

A release changes by compare-and-set: whoever wants to move it says from which state and stage. All times are
the database's, so that replicas with different clocks agree on when a stage ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg2.extras import Json

from fraud_core.canary.lifecycle import ENDED, JUDGED, Mode, State

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Deployment:
    """A release; the fields are the columns, and `read_at` is the database's time of reading.

    Attributes:
        previous_version: the champion when the release was opened.
        salt: from which the cards are drawn that the canary serves.
        findings: of the validation; None before it.
        paired: what both models said of labelled history, see `fraud_core.canary.evidence.Paired`.
    """

    deployment_id: int
    name: str
    version: str
    previous_version: str | None
    mode: Mode
    state: State
    traffic_percent: int
    salt: str
    run_id: str | None
    reason: str | None
    started_at: datetime
    stage_started_at: datetime | None
    extensions: int
    ended_at: datetime | None
    findings: Any
    paired: Any
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a release."""

    occurred_at: datetime
    kind: str
    details: Any


_COLUMNS: Final = ", ".join(field.name for field in fields(Deployment) if field.name != "read_at")
_SELECT: Final = f"SELECT {_COLUMNS}, clock_timestamp() FROM deployments"  # noqa: S608


def open_deployment(
    cursor: Cursor,
    *,
    name: str,
    version: str,
    previous: str | None,
    mode: Mode,
    salt: str,
    run_id: str | None,
) -> int | None:
    """Open a release; returns its id, or None if another one of the model is running."""
    cursor.execute(
        "INSERT INTO deployments (name, version, previous_version, mode, state, salt, run_id)"
        " VALUES (%s, %s, %s, %s, 'validating', %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING deployment_id",
        (name, version, previous, mode, salt, run_id),
    )
    row = cursor.fetchone()
    return int(row[0]) if row else None


def read_deployment(cursor: Cursor, name: str, deployment_id: int) -> Deployment | None:
    cursor.execute(f"{_SELECT} WHERE name = %s AND deployment_id = %s", (name, deployment_id))
    return _one(cursor)


def deployment_of_run(cursor: Cursor, name: str, run_id: str) -> Deployment | None:
    cursor.execute(f"{_SELECT} WHERE name = %s AND run_id = %s", (name, run_id))
    return _one(cursor)


def running_deployment(cursor: Cursor, name: str) -> Deployment | None:
    cursor.execute(f"{_SELECT} WHERE name = %s AND ended_at IS NULL", (name,))
    return _one(cursor)


def latest_deployments(cursor: Cursor, name: str, limit: int) -> list[Deployment]:
    """The newest first."""
    cursor.execute(f"{_SELECT} WHERE name = %s ORDER BY deployment_id DESC LIMIT %s", (name, limit))
    return [_deployment(row) for row in cursor.fetchall()]


def move(
    cursor: Cursor,
    before: Deployment,
    state: State,
    *,
    percent: int | None = None,
    reason: str | None = None,
    findings: Mapping[str, Any] | None = None,
    paired: Mapping[str, Any] | None = None,
) -> bool:
    """Move a release from the state in which it was read; False if it has moved meanwhile.

    A state that is judged begins a stage. What ends loses its share of traffic.
    """
    cursor.execute(
        _MOVE,
        {
            "id": before.deployment_id,
            "before": before.state,
            "state": state,
            "percent": 0 if state in ENDED else percent,
            "stage": state in JUDGED,
            "ended": state in ENDED,
            "reason": reason,
            "findings": None if findings is None else Json(findings),
            "paired": None if paired is None else Json(paired),
        },
    )
    return bool(cursor.rowcount)


def extend(cursor: Cursor, before: Deployment) -> bool:
    """Extend the stage's window once; False if it was extended or has moved meanwhile."""
    cursor.execute(
        "UPDATE deployments SET extensions = extensions + 1"
        " WHERE deployment_id = %s AND state = %s AND extensions = %s",
        (before.deployment_id, before.state, before.extensions),
    )
    return bool(cursor.rowcount)


def record_event(cursor: Cursor, deployment_id: int, kind: str, details: Mapping[str, Any]) -> None:
    cursor.execute(
        "INSERT INTO deployment_events (deployment_id, kind, details, occurred_at)"
        " VALUES (%s, %s, %s, clock_timestamp())",
        (deployment_id, kind, Json(details)),
    )


def events_of(cursor: Cursor, deployment_id: int) -> list[Event]:
    """In their order."""
    cursor.execute(
        "SELECT occurred_at, kind, details FROM deployment_events WHERE deployment_id = %s ORDER BY id",
        (deployment_id,),
    )
    return [Event(*row) for row in cursor.fetchall()]


_MOVE: Final = """
    UPDATE deployments SET
        state = %(state)s,
        traffic_percent = coalesce(%(percent)s, traffic_percent),
        stage_started_at = CASE WHEN %(stage)s THEN clock_timestamp() ELSE stage_started_at END,
        extensions = CASE WHEN %(stage)s THEN 0 ELSE extensions END,
        ended_at = CASE WHEN %(ended)s THEN clock_timestamp() END,
        reason = coalesce(%(reason)s, reason),
        findings = coalesce(%(findings)s, findings),
        paired = coalesce(%(paired)s, paired)
    WHERE deployment_id = %(id)s AND state = %(before)s
"""


def _one(cursor: Cursor) -> Deployment | None:
    row = cursor.fetchone()
    return _deployment(row) if row else None


def _deployment(row: tuple[Any, ...]) -> Deployment:
    values = dict(zip((field.name for field in fields(Deployment)), row, strict=True))
    return Deployment(**values | {"state": State(values["state"]), "mode": Mode(values["mode"])})
