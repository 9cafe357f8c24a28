"""When a DAG's runs are due, read from the schedule Airflow keeps with the DAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

# So many due times may pass without a run that succeeds …
MISSED: Final = 10
# … but where a run is due seldom, it is late when this long after the first of them.
LATE: Final = timedelta(hours=1)


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
            found: datetime = times.get_next(datetime)
        return found.astimezone(UTC)

    def __str__(self) -> str:
        return f"by the schedule {self.expression!r} ({self.timezone})"


def schedule(timetable: Mapping[str, Any]) -> Schedule | None:
    """The schedule of a timetable as Airflow serialises it; None where runs are not due by the clock."""
    given = timetable.get("__var")
    match given:
        case {"delta": int() | float() as seconds} if seconds > 0:
            return Every(timedelta(seconds=seconds))
        case {"expression": str(expression), "timezone": str(timezone)}:
            return Cron(expression, timezone)
    return None


def deadline(known: Schedule, since: datetime) -> datetime:
    """Until when a run must have succeeded, if the last one did at `since`."""
    return min(known.due(since, MISSED), known.due(since, 1) + LATE)
