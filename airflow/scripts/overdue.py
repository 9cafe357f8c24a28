"""Decides which DAGs are overdue, and what people are to be told of it. Nothing here does any I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from schedules import Schedule, deadline

# The notifier tries a channel that failed again after so long, and by then an incident counts as over.
AGAIN: Final = timedelta(minutes=5)
# Whoever has not looked for so long (the machine slept, the database was away) begins anew.
BLIND: Final = timedelta(minutes=1)


class Kind(StrEnum):
    ALERT = "alert"
    RESOLVE = "resolve"


@dataclass(frozen=True, slots=True)
class Active:
    """The oldest run that is queued or running; it may hold the others up."""

    run_id: str
    state: str
    dated: datetime | None  # its logical date, or `run_after` where that is later


@dataclass(frozen=True, slots=True)
class Dag:
    """An unpaused DAG as Airflow's database knows it; times in UTC.

    `succeeded`: when a run last ended in success; `told`: whether an incident of it is open.
    """

    dag_id: str
    schedule: Schedule
    critical: bool
    unreadable: bool
    succeeded: datetime | None
    active: Active | None
    told: bool


@dataclass(frozen=True, slots=True)
class Message:
    """What the notifier is to be given."""

    kind: Kind
    dag_id: str
    key: str
    title: str = ""
    text: str = ""
    severity: str = "high"


def incident_key(dag_id: str) -> str:
    """What names the incident; a task's is `<dag id>/<task id>`."""
    return f"{dag_id}: overdue"


class Watch:
    """What is remembered between one look and the next."""

    def __init__(self) -> None:
        self._looked: datetime | None = None
        self._since: dict[str, datetime] = {}
        self._wait: dict[str, tuple[Kind, datetime]] = {}

    def look(self, dags: Iterable[Dag], now: datetime) -> dict[str, tuple[Dag, timedelta]]:
        """How long each DAG has been overdue; negative: it has time left.

        A DAG counts from its last success, but not from before it was first seen unpaused.
        """
        if self._looked is None or now - self._looked > BLIND:
            self._since = {}
        self._looked = now
        known = {dag.dag_id: dag for dag in dags}
        self._since = {name: self._since.get(name, now) for name in known}
        return {name: (dag, now - deadline(dag.schedule, self._counted(dag))) for name, dag in known.items()}

    def due(self, looked: dict[str, tuple[Dag, timedelta]], now: datetime) -> Iterator[Message]:
        """What is to be told now; each is to be `done` before the next look."""
        for dag, late in looked.values():
            message = _message(dag, late, self._counted(dag), now)
            if message is None:
                self._wait.pop(dag.dag_id, None)
                continue
            kind, until = self._wait.get(dag.dag_id, (None, now))
            if kind is not message.kind or now >= until:
                yield message

    def done(self, message: Message, dag: Dag, now: datetime, *, told: bool) -> None:
        """Told, or tried; it is told again when the DAG should have run again."""
        once_more = dag.schedule.due(now, 1) if told else now
        self._wait[message.dag_id] = (message.kind, max(now + AGAIN, once_more))

    def _counted(self, dag: Dag) -> datetime:
        seen = self._since[dag.dag_id]
        return seen if dag.succeeded is None else max(dag.succeeded, seen)


def _message(dag: Dag, late: timedelta, since: datetime, now: datetime) -> Message | None:
    key = incident_key(dag.dag_id)
    if late >= timedelta(0):
        text = (
            f"It should run {dag.schedule}, and no run has succeeded since "
            f"{dag.succeeded or since:%Y-%m-%d %H:%M:%S} UTC.\n{_reason(dag, now)}"
        )
        severity = "critical" if dag.critical else "high"
        return Message(Kind.ALERT, dag.dag_id, key, f"{dag.dag_id}: no run succeeds", text, severity)
    # A watch that has just begun cannot know whether what it had told of is over.
    if dag.told and dag.succeeded is not None and now < deadline(dag.schedule, dag.succeeded):
        return Message(Kind.RESOLVE, dag.dag_id, key)
    return None


def _reason(dag: Dag, now: datetime) -> str:
    if dag.unreadable:
        return "Its file cannot be read: `airflow dags list-import-errors`."
    if dag.active is None:
        return "No run is waiting or at work: is the scheduler alive, or does each run fail?"
    run = f"The run {dag.active.run_id} is {dag.active.state}"
    if dag.active.dated is not None and dag.active.dated > now:
        return (
            f"{run} and dated ahead, {dag.active.dated.isoformat()}: until then it holds the others up. "
            "Mark it as failed, or delete it."
        )
    return f"{run}: look at its tasks, the scheduler and the workers."
