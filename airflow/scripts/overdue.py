"""Decides which DAGs are overdue and which notifications to send. Nothing here does any I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from schedules import Schedule, deadline

# After this time the notifier retries a failed channel, and an incident counts as over.
RETRY_AFTER: Final = timedelta(minutes=5)
# After a longer gap between checks (the machine slept, the database was unavailable) the watch starts afresh.
MAX_GAP: Final = timedelta(minutes=1)


class Kind(StrEnum):
    ALERT = "alert"
    RESOLVE = "resolve"
    DELIVER = "deliver"  # what waits for the end of quiet hours, or was refused


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """The oldest run that is queued or running; it may block the others."""

    run_id: str
    state: str
    dated: datetime | None  # its logical date, or `run_after` where that is later


@dataclass(frozen=True, slots=True)
class Dag:
    """An unpaused DAG as Airflow's database knows it; times in UTC.

    `succeeded`: when a run last ended in success; `has_incident`: whether an incident is open.
    """

    dag_id: str
    schedule: Schedule
    critical: bool
    unreadable: bool
    succeeded: datetime | None
    active: ActiveRun | None
    has_incident: bool


@dataclass(frozen=True, slots=True)
class Notification:
    """A message for the notifier."""

    kind: Kind
    dag_id: str
    key: str
    title: str = ""
    text: str = ""
    severity: str = "high"


def incident_key(dag_id: str) -> str:
    """The key of the incident; a task's key is `<dag id>/<task id>`."""
    return f"{dag_id}: overdue"


class OverdueWatch:
    """The state between checks."""

    def __init__(self) -> None:
        self._last_check: datetime | None = None
        self._since: dict[str, datetime] = {}
        self._next_send: dict[str, tuple[Kind, datetime]] = {}

    def check(self, dags: Iterable[Dag], now: datetime) -> dict[str, tuple[Dag, timedelta]]:
        """How long each DAG has been overdue; negative: it has time left.

        A DAG counts from its last success, but not from before it was first seen unpaused.
        """
        if self._last_check is None or now - self._last_check > MAX_GAP:
            self._since = {}
        self._last_check = now
        known = {dag.dag_id: dag for dag in dags}
        self._since = {name: self._since.get(name, now) for name in known}
        return {
            name: (dag, now - deadline(dag.schedule, self._late_from(dag))) for name, dag in known.items()
        }

    def notifications(
        self, lateness: dict[str, tuple[Dag, timedelta]], now: datetime
    ) -> Iterator[Notification]:
        """The notifications to send now; `record` each of them before the next check."""
        for dag, late in lateness.values():
            message = _message(dag, late, self._late_from(dag), now)
            if message is None:
                self._next_send.pop(dag.dag_id, None)
                continue
            kind, until = self._next_send.get(dag.dag_id, (None, now))
            if kind is not message.kind or now >= until:
                yield message

    def record(self, message: Notification, dag: Dag, now: datetime, *, sent: bool) -> None:
        """Record that a notification was sent or failed; it is repeated when the DAG's next run is due."""
        next_due = dag.schedule.due(now, 1) if sent else now
        self._next_send[message.dag_id] = (message.kind, max(now + RETRY_AFTER, next_due))

    def _late_from(self, dag: Dag) -> datetime:
        seen = self._since[dag.dag_id]
        return seen if dag.succeeded is None else max(dag.succeeded, seen)


def _message(dag: Dag, lateness: timedelta, since: datetime, now: datetime) -> Notification | None:
    key = incident_key(dag.dag_id)
    if lateness >= timedelta(0):
        text = (
            f"It should run {dag.schedule}, and no run has succeeded since "
            f"{dag.succeeded or since:%Y-%m-%d %H:%M:%S} UTC.\n{_reason(dag, now)}"
        )
        severity = "critical" if dag.critical else "high"
        return Notification(Kind.ALERT, dag.dag_id, key, f"{dag.dag_id}: no run succeeds", text, severity)
    # A newly started watch does not know its earlier notifications, so it resolves only what has succeeded.
    if dag.has_incident and dag.succeeded is not None and now < deadline(dag.schedule, dag.succeeded):
        return Notification(Kind.RESOLVE, dag.dag_id, key)
    return None


def _reason(dag: Dag, now: datetime) -> str:
    if dag.unreadable:
        return "Its file cannot be read: `airflow dags list-import-errors`."
    if dag.active is None:
        return "No run is queued or running: is the scheduler alive, or does each run fail?"
    run = f"The run {dag.active.run_id} is {dag.active.state}"
    if dag.active.dated is not None and dag.active.dated > now:
        return (
            f"{run} and dated ahead, {dag.active.dated.isoformat()}: until then it blocks the others. "
            "Mark it as failed, or delete it."
        )
    return f"{run}: look at its tasks, the scheduler and the workers."
