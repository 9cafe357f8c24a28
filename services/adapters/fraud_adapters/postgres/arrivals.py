"""What arrived in a window for a decision: counted in `transactions`, with the predictions that are needed.

History that was loaded does not count: it arrives at once, and has no decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.placement import placement
from fraud_core.contract import Contract
from fraud_core.fields import ContractField

LIVE: Final = ("stream", "api")  # the sources of transactions that are decided when they arrive


@dataclass(frozen=True, slots=True)
class Window:
    """Arrivals from `start` on and before `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What one reading of the window's transactions counts.

    Attributes:
        foreign: of another contract; absent, beyond: by field, as `SchemaEvidence`.
        streamed: of the rows those that came by the stream.
        ahead, late: events too far after, or before, their arrival; the delays are in seconds.
    """

    rows: int
    streamed: int
    foreign: int
    absent: Mapping[str, int]
    beyond: Mapping[str, int]
    ahead: int
    late: int
    delay_p50: float | None
    delay_p99: float | None


def count_window(
    connection: Connection, contract: Contract, window: Window, ahead: timedelta, late: timedelta
) -> WindowCounts:
    """Count the live transactions of a window, in one reading by the index of arrival."""
    conditions = _field_conditions(contract)
    counted = [
        sql.SQL("count(*) FILTER (WHERE contract = {c} AND ({f}))").format(
            c=sql.Placeholder("contract"), f=one
        )
        for _, _, one in conditions
    ]
    statement = sql.SQL(_WINDOW).format(
        delay=sql.SQL(_DELAY), fields=sql.SQL("").join(sql.SQL(", {}").format(one) for one in counted)
    )
    values = {**_window(window), "contract": contract.schema_id, "ahead": ahead, "late": late}
    rows, streamed, foreign, early, delayed, p50, p99, *by_field = _row(connection, statement, values)
    counts = [(kind, name, count) for (kind, name, _), count in zip(conditions, by_field, strict=True)]
    return WindowCounts(
        rows=rows,
        streamed=streamed,
        foreign=foreign,
        absent={name: count for kind, name, count in counts if kind == "absent"},
        beyond={name: count for kind, name, count in counts if kind == "beyond"},
        ahead=early,
        late=delayed,
        delay_p50=p50,
        delay_p99=p99,
    )


def count_earlier(connection: Connection, window: Window, days: int) -> list[int]:
    """The live transactions of the same hours of each of the days before, the latest day first."""
    values = {**_window(window), "days": days}
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(_EARLIER, values))
        return [int(count) for (count,) in cursor.fetchall()]


def first_and_last(connection: Connection) -> tuple[datetime | None, datetime | None]:
    """When the first and the last live transaction arrived."""
    first, last = _row(connection, sql.SQL(_ENDS), {"live": list(LIVE)})
    return first, last


def count_undecided(connection: Connection, window: Window) -> int:
    """The live transactions of a window without a deciding prediction."""
    (count,) = _row(connection, sql.SQL(_UNDECIDED), _window(window))
    return int(count)


def found_of(connection: Connection, ids: list[str]) -> dict[str, bool]:
    """Which of these ids are stored, and whether each has a deciding prediction."""
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(_FOUND, (ids,)))
        return {identifier: bool(decided) for identifier, decided in cursor.fetchall()}


def _field_conditions(contract: Contract) -> list[tuple[str, str, sql.Composable]]:
    """Kind, field, and the condition that a row breaks."""
    expressions = placement(contract).expressions(contract)
    conditions: list[tuple[str, str, sql.Composable]] = []
    for field in contract.inputs:
        value = sql.SQL(expressions[field.name])
        if field.required:
            conditions.append(("absent", field.name, sql.SQL("{} IS NULL").format(value)))
        if (broken := _out_of_range(field, value)) is not None:
            conditions.append(("beyond", field.name, broken))
    return conditions


def _out_of_range(field: ContractField, value: sql.Composable) -> sql.Composable | None:
    if field.values:
        return sql.SQL("{} <> ALL ({}::text[])").format(value, sql.Literal(list(field.values)))
    bounds = (("<", field.min), (">", field.max), (">=", field.below))
    broken = [
        sql.SQL("{} {} {}").format(value, sql.SQL(sign), sql.Literal(bound))
        for sign, bound in bounds
        if bound is not None
    ]
    return sql.SQL(" OR ").join(broken) if broken else None


def _window(window: Window) -> dict[str, Any]:
    return {"start": window.start, "end": window.end, "live": list(LIVE)}


def _row(connection: Connection, statement: sql.Composable, values: Mapping[str, Any]) -> tuple[Any, ...]:
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement, values))
        row: tuple[Any, ...] | None = cursor.fetchone()
    assert row is not None
    return row


_DELAY: Final = "ingestion_timestamp - event_time"
_WINDOW: Final = """
    SELECT count(*), count(*) FILTER (WHERE source = 'stream'),
           count(*) FILTER (WHERE contract <> %(contract)s),
           count(*) FILTER (WHERE event_time > ingestion_timestamp + %(ahead)s),
           count(*) FILTER (WHERE event_time < ingestion_timestamp - %(late)s),
           extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY {delay}))::float8,
           extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY {delay}))::float8
           {fields}
    FROM transactions
    WHERE ingestion_timestamp >= %(start)s AND ingestion_timestamp < %(end)s AND source = ANY (%(live)s)
"""
_EARLIER: Final = """
    SELECT (SELECT count(*) FROM transactions x
            WHERE x.ingestion_timestamp >= %(start)s - earlier.days
              AND x.ingestion_timestamp < %(end)s - earlier.days AND x.source = ANY (%(live)s))
    FROM (SELECT n, n * interval '1 day' AS days FROM generate_series(1, %(days)s) n) earlier ORDER BY n
"""
_ENDS: Final = """
    SELECT (SELECT ingestion_timestamp FROM transactions WHERE source = ANY (%(live)s)
            ORDER BY ingestion_timestamp LIMIT 1),
           (SELECT ingestion_timestamp FROM transactions WHERE source = ANY (%(live)s)
            ORDER BY ingestion_timestamp DESC LIMIT 1)
"""
_UNDECIDED: Final = """
    SELECT count(*) FROM transactions x
    WHERE x.ingestion_timestamp >= %(start)s AND x.ingestion_timestamp < %(end)s AND x.source = ANY (%(live)s)
      AND NOT EXISTS (SELECT FROM predictions p WHERE p.transaction_id = x.transaction_id AND p.deciding)
"""
_FOUND: Final = """
    SELECT x.transaction_id,
           EXISTS (SELECT FROM predictions p WHERE p.transaction_id = x.transaction_id AND p.deciding)
    FROM transactions x WHERE x.transaction_id = ANY (%s::varchar[])
"""
