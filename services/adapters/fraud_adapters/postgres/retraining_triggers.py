"""The table `retraining_triggers`: reasons to train, and the decision of each run whether to.

A trigger is opened by whoever finds the reason. A run that trains takes the open ones, so that they are
`running`; they are `done` once it has registered a version, and `open` again if it fails before that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg2.extras import Json

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

DECISION: Final = "decision"  # the source of the rows that are decisions


@dataclass(frozen=True, slots=True)
class RunName:
    """The run of a DAG that trains."""

    dag: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A reason to train that no run has dealt with yet."""

    trigger_id: int
    source: str
    severity: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """The decision of a run; `outcome` says how the run ended, None while it has not."""

    retrain: bool
    reason: str
    outcome: str | None


@dataclass(frozen=True, slots=True)
class LastTrigger:
    """The latest trigger of a source."""

    triggered_at: datetime
    unfinished: bool


def open_trigger(
    cursor: Cursor, *, source: str, severity: str, reason: str, found_by: str, details: Mapping[str, Any]
) -> int:
    """Open a trigger; returns its id. One that the same run has opened before is returned unchanged.

    Args:
        found_by: the folder of the run that found the reason.
    """
    cursor.execute(
        "SELECT id FROM retraining_triggers WHERE source = %s AND details->>'found_by' = %s",
        (source, found_by),
    )
    row = cursor.fetchone()
    if row is None:
        cursor.execute(
            "INSERT INTO retraining_triggers (triggered_at, source, severity, reason, details)"
            " VALUES (clock_timestamp(), %s, %s, %s, %s) RETURNING id",
            (source, severity, reason, Json({**details, "found_by": found_by})),
        )
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def last_trigger(cursor: Cursor, source: str, *, not_found_by: str) -> LastTrigger | None:
    """The latest trigger of a source, apart from those that this run has opened itself."""
    cursor.execute(
        "SELECT triggered_at, state IN ('open', 'running') FROM retraining_triggers"
        " WHERE source = %s AND details->>'found_by' IS DISTINCT FROM %s ORDER BY triggered_at DESC LIMIT 1",
        (source, not_found_by),
    )
    row = cursor.fetchone()
    return LastTrigger(*row) if row else None


def lock_decisions(cursor: Cursor) -> None:
    """Serialise decisions until the transaction ends, so that a trigger is taken once."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('retraining decision', 0))")


def release_abandoned(cursor: Cursor, taken_before: datetime) -> None:
    """Give up the runs that took triggers before that moment and have not ended."""
    values = {"outcome": _ABANDONED, "before": taken_before}
    cursor.execute(_RELEASE.format(whose="taken_at < %(before)s"), values)


def open_triggers(cursor: Cursor, run: RunName) -> list[Trigger]:
    """Triggers that are open, or that this run has taken already, oldest first."""
    cursor.execute(
        "SELECT id, source, severity, reason FROM retraining_triggers"
        " WHERE source <> %(decision)s AND (state = 'open' OR"
        "       state = 'running' AND dag_id = %(dag)s AND run_id = %(run)s) ORDER BY triggered_at, id",
        _values(run),
    )
    return [Trigger(*row) for row in cursor.fetchall()]


def take(cursor: Cursor, run: RunName, triggers: Sequence[Trigger]) -> None:
    """Let the run deal with these triggers."""
    cursor.execute(
        "UPDATE retraining_triggers SET state = 'running', dag_id = %(dag)s, run_id = %(run)s,"
        " taken_at = clock_timestamp() WHERE id = ANY (%(ids)s)",
        {**_values(run), "ids": [trigger.trigger_id for trigger in triggers]},
    )


def store_decision(
    cursor: Cursor, run: RunName, *, retrain: bool, sentence: str, details: Mapping[str, Any]
) -> int:
    """Store the decision of a run; returns its id. One that the run has not acted on yet is replaced."""
    values = {
        **_values(run),
        "retrain": retrain,
        "state": "running" if retrain else "declined",
        "reason": sentence,
        "details": Json(details),
    }
    cursor.execute(_DECIDE_AGAIN, values)
    row = cursor.fetchone()
    if row is None:
        cursor.execute(_DECIDE, values)
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def read_decision(cursor: Cursor, run: RunName) -> StoredDecision | None:
    """The latest decision of a run, or None if there is none."""
    cursor.execute(
        "SELECT state <> 'declined', reason, details->>'outcome' FROM retraining_triggers"
        " WHERE source = %(decision)s AND dag_id = %(dag)s AND run_id = %(run)s"
        " ORDER BY triggered_at DESC, id DESC LIMIT 1",
        _values(run),
    )
    row = cursor.fetchone()
    return StoredDecision(*row) if row else None


def release(cursor: Cursor, run: RunName, outcome: str) -> None:
    """The run failed: its triggers are open again, and its decision is withdrawn."""
    cursor.execute(
        _RELEASE.format(whose="dag_id = %(dag)s AND run_id = %(run)s"), {**_values(run), "outcome": outcome}
    )


def close(cursor: Cursor, run: RunName, outcome: str) -> None:
    """The run has registered a version: its triggers and its decision are done.

    A run that failed and then went on closes what it held before, unless another run has taken it.
    """
    cursor.execute(_CLOSE, {**_values(run), "outcome": outcome})


def _values(run: RunName) -> dict[str, Any]:
    return {"dag": run.dag, "run": run.run_id, "decision": DECISION}


_ABANDONED: Final = "the run did not end in time"
_RELEASE: Final = (
    """
    UPDATE retraining_triggers SET
        state = CASE source WHEN '"""
    + DECISION
    + """' THEN 'withdrawn' ELSE 'open' END,
        handled_at = CASE source WHEN '"""
    + DECISION
    + """' THEN clock_timestamp() END,
        details = coalesce(details, '{{}}') || jsonb_build_object('outcome', %(outcome)s::text)
    WHERE state = 'running' AND {whose}
"""
)
_CLOSE: Final = """
    UPDATE retraining_triggers SET state = 'done', handled_at = clock_timestamp(),
        details = coalesce(details, '{}') || jsonb_build_object('outcome', %(outcome)s::text)
    WHERE dag_id = %(dag)s AND run_id = %(run)s
      AND (state = 'running' OR state = CASE source WHEN %(decision)s THEN 'withdrawn' ELSE 'open' END)
"""
_DECIDE_AGAIN: Final = """
    UPDATE retraining_triggers SET state = %(state)s, reason = %(reason)s, details = %(details)s,
        triggered_at = clock_timestamp(), taken_at = clock_timestamp(),
        handled_at = CASE WHEN NOT %(retrain)s THEN clock_timestamp() END
    WHERE source = %(decision)s AND state = 'running' AND dag_id = %(dag)s AND run_id = %(run)s
    RETURNING id
"""
_DECIDE: Final = """
    INSERT INTO retraining_triggers
        (triggered_at, source, severity, reason, state, dag_id, run_id, taken_at, handled_at, details)
    VALUES (clock_timestamp(), %(decision)s, 'none', %(reason)s, %(state)s, %(dag)s, %(run)s,
        CASE WHEN %(retrain)s THEN clock_timestamp() END,
        CASE WHEN NOT %(retrain)s THEN clock_timestamp() END, %(details)s)
    RETURNING id
"""
