"""When a DAG's runs are due, read from the schedule Airflow keeps with the DAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

# A DAG is overdue after this many due times without a successful run …
MAX_MISSED: Final = 10
# … or, if it runs rarely, this long after the first of them.
MAX_LATENESS: Final = timedelta(hours=1)


class Schedule(Protocol):
    def due(self, after: datetime, number: int) -> datetime:
        """The `number`-th due time after a moment; both in UTC, `number` from 1."""


@dataclass(frozen=True, slots=True)
class Every:
    """A fixed time between runs."""

    interval: timedelta

    def due(self, after: datetime, number: int) -> datetime:
        return after + number * self.interval

    def __str__(self) -> str:
        return f"every {self.interval.total_seconds():g} s"


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone."""

    expression: str
    timezone: str

    def due(self, after: datetime, number: int) -> datetime:
        from croniter import croniter  # of Airflow's own packages

        times = croniter(self.expression, after.astimezone(ZoneInfo(self.timezone)))
        for _ in range(number):
            next_due: datetime = times.get_next(datetime)
        return next_due.astimezone(UTC)

    def __str__(self) -> str:
        return f"by the schedule {self.expression!r} ({self.timezone})"


def schedule(timetable: Mapping[str, Any]) -> Schedule | None:
    """The schedule of a serialised timetable; None if its runs are not scheduled by time."""
    variables = timetable.get("__var")
    match variables:
        case {"delta": int() | float() as seconds} if seconds > 0:
            return Every(timedelta(seconds=seconds))
        case {"expression": str(expression), "timezone": str(timezone)}:
            return Cron(expression, timezone)
    return None


def deadline(schedule: Schedule, since: datetime) -> datetime:
    """The time by which a run must have succeeded, if the last success was at `since`."""
    return min(schedule.due(since, MAX_MISSED), schedule.due(since, 1) + MAX_LATENESS)
