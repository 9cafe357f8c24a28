"""The table `decision_hours`: decisions by hour and model version, beside the truth as far as it is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

Period = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """Counts and amounts of decisions.

    Attributes:
        flagged: predicted as fraud; tp, fp, tn, fn are of those whose truth is known.
        implied: of those, the ones that count as legitimate because nobody reported them.
        amount, tp_amount, fp_amount, fn_amount: sums of amounts.
    """

    decided: int = 0
    flagged: int = 0
    blocked: int = 0
    amount: float = 0.0
    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0
    implied: int = 0
    tp_amount: float = 0.0
    fp_amount: float = 0.0
    fn_amount: float = 0.0

    @property
    def labelled(self) -> int:
        return self.tp + self.fp + self.tn + self.fn

    def __add__(self, other: DecisionCounts) -> DecisionCounts:
        return DecisionCounts(*(getattr(self, name) + getattr(other, name) for name in _NAMES))


@dataclass(frozen=True, slots=True)
class Span:
    """Which hours are summed: those that begin in the interval, of one model version or of all."""

    since: datetime
    until: datetime
    version: str | None = None


_NAMES: Final = tuple(field.name for field in fields(DecisionCounts))
_SUMS: Final = ", ".join(
    f"coalesce(sum({name}), 0)::{'float8' if name.endswith('amount') else 'bigint'}" for name in _NAMES
)

_FROM: Final = (
    "FROM decision_hours WHERE hour >= date_trunc('hour', %(since)s, 'UTC') AND hour < %(until)s"
    " AND (%(version)s::text IS NULL OR model_version = %(version)s)"
)


def summarise(cursor: Cursor, hours: int, settle: timedelta) -> int:
    """Compute hours anew about which something became known, and some of those computed the longest ago.

    Returns:
        How many hours were never computed yet.
    """
    cursor.execute("SELECT summarise_decisions(%s, %s)", (hours, settle))
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def totals(cursor: Cursor, span: Span) -> DecisionCounts:
    """The sum of the hours that begin in the interval."""
    cursor.execute(f"SELECT {_SUMS} {_FROM}", asdict(span))
    row = cursor.fetchone()
    assert row is not None
    return DecisionCounts(*row)


def trend(cursor: Cursor, span: Span, period: Period, zone: str) -> list[tuple[datetime, DecisionCounts]]:
    """The counts of each hour, or of each day of a time zone, in which something was decided."""
    cursor.execute(
        f"SELECT date_trunc(%(period)s, hour, %(zone)s) AS period, {_SUMS} {_FROM}"
        " GROUP BY period ORDER BY period",
        asdict(span) | {"period": period, "zone": zone},
    )
    return [(row[0], DecisionCounts(*row[1:])) for row in cursor.fetchall()]


def versions(cursor: Cursor, span: Span) -> list[tuple[str, DecisionCounts]]:
    """The counts of each model version, the one that decided most first."""
    cursor.execute(
        f"SELECT model_version, {_SUMS} {_FROM}"
        " GROUP BY model_version ORDER BY sum(decided) DESC, model_version LIMIT 50",
        asdict(span),
    )
    return [(row[0], DecisionCounts(*row[1:])) for row in cursor.fetchall()]


def computed(cursor: Cursor) -> tuple[datetime | None, int]:
    """When the figures were last computed, and how many hours wait to be."""
    cursor.execute(
        "SELECT nullif(max(computed_at), '-infinity'), count(*) FILTER (WHERE computed_at = '-infinity')"
        " FROM summarised_hours"
    )
    row = cursor.fetchone()
    return (row[0], int(row[1])) if row else (None, 0)
