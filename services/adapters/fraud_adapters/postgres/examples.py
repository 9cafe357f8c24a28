"""Training examples: transactions with a label that is mature at a cut-off.

Only the SQL function `labels_as_of` decides which labels are mature: known at the cut-off and no longer
expected to change.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from config.job_results.trainer import LeftOutCounts
from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.placement import placement
from fraud_adapters.postgres.session import Cursor
from fraud_core.batch import Batch
from fraud_core.contract import Contract

ID: Final = "transaction_id"
TIME: Final = "event_time"
# No field of a contract starts with an underscore.
LABEL: Final = "_label"
SOURCE: Final = "_source"
LABEL_SOURCE: Final = "_label_source"
MOMENT: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Interval:
    """Event times from `start` on and before `end`; None is unbounded."""

    start: datetime | None = None
    end: datetime | None = None

    @property
    def bounded(self) -> bool:
        return self.start is not None or self.end is not None

    def condition(self, column: str) -> sql.Composable:
        """That a column of moments lies within, as the end of a WHERE clause.

        Nothing for an unbounded side: a condition that is always true misleads the planner.
        """
        bounds = (("{} >= {}::timestamptz", self.start), ("{} < {}::timestamptz", self.end))
        return sql.SQL("").join(
            sql.SQL(f" AND {text}").format(sql.SQL(column), sql.Literal(at)) for text, at in bounds if at
        )

    def __str__(self) -> str:
        bounds = (("from", self.start), ("before", self.end))
        return " and ".join(f"{word} {at.isoformat(timespec='seconds')}" for word, at in bounds if at)


EVERYTHING: Final = Interval()


def database_clock(connection: Connection) -> datetime:
    """The current time of the database, because labels are stored with its clock."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def read_whole_tables(cursor: Cursor) -> None:
    """Plan the rest of the transaction for whole tables.

    Tables that were filled a moment ago have no statistics yet. The planner then takes them for small and
    compares each row with each, which takes minutes from a hundred thousand rows on.
    """
    cursor.execute("SET LOCAL enable_nestloop = off")


def read_examples(
    connection: Connection, contract: Contract, as_of: datetime, interval: Interval = EVERYTHING
) -> pa.Table:
    """The interval's transactions of the contract whose label was mature at `as_of`, ordered by event time.

    Returns:
        Columns transaction_id, event_time, _label (int8), _source (the transaction's), _label_source, and
        each input field of the contract: float64 for numeric fields, text for others.
    """
    fields = [
        sql.SQL("{} AS {}").format(sql.SQL(expression), sql.Identifier(name))
        for name, expression in placement(contract).expressions(contract).items()
    ]
    query = sql.SQL(
        "COPY (SELECT x.transaction_id,"
        " (extract(epoch FROM x.event_time) * 1000000)::bigint AS event_time,"
        " l.label AS {label}, x.source AS {source}, l.label_source AS {label_source}, {fields}"
        " FROM transactions x"
        " JOIN (SELECT transaction_id AS labelled, label, source AS label_source"
        "       FROM labels_as_of({as_of}) WHERE mature) l"
        " ON l.labelled = x.transaction_id"
        " WHERE x.contract = {contract} AND x.event_time <= {as_of}{within}"
        " ORDER BY x.event_time, x.transaction_id) TO STDOUT (FORMAT csv, HEADER)"
    ).format(
        label=sql.Identifier(LABEL),
        source=sql.Identifier(SOURCE),
        label_source=sql.Identifier(LABEL_SOURCE),
        fields=sql.SQL(", ").join(fields),
        as_of=sql.Literal(as_of),
        contract=sql.Literal(contract.schema_id),
        # COPY takes no parameters.
        within=interval.condition("x.event_time"),
    )
    text = io.BytesIO()
    with connection, connection.cursor() as cursor:
        read_whole_tables(cursor)
        statement = query.as_string(cursor)
        interruptible(connection, lambda: cursor.copy_expert(statement, text))
    return _parsed(contract, text.getbuffer())


def count_transactions(
    connection: Connection, contract: Contract, as_of: datetime, interval: Interval = EVERYTHING
) -> int:
    """How many transactions of the contract the interval has up to `as_of`, labelled or not."""
    statement = sql.SQL(
        "SELECT count(*) FROM transactions x WHERE x.contract = {} AND x.event_time <= {}{}"
    ).format(sql.Literal(contract.schema_id), sql.Literal(as_of), interval.condition("x.event_time"))
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement))
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def divided(
    connection: Connection,
    contract: Contract,
    as_of: datetime,
    interval: Interval = EVERYTHING,
    count: int = 1,
) -> list[Interval]:
    """The interval in at most `count` intervals of about as many transactions each, in order of time."""
    if count == 1:
        return [interval]
    statement = sql.SQL(
        "SELECT percentile_disc({}::float8[]) WITHIN GROUP (ORDER BY x.event_time) FROM transactions x"
        " WHERE x.contract = {} AND x.event_time <= {}{}"
    ).format(
        sql.Literal([number / count for number in range(1, count)]),
        sql.Literal(contract.schema_id),
        sql.Literal(as_of),
        interval.condition("x.event_time"),
    )
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement))
        row = cursor.fetchone()
    cuts = sorted(set(row[0] or ())) if row else []
    starts, ends = [interval.start, *cuts], [*cuts, interval.end]
    return [Interval(start, end) for start, end in zip(starts, ends, strict=True)]


def moment_of_share(
    connection: Connection, contract: Contract, as_of: datetime, interval: Interval, share: float
) -> datetime | None:
    """The event time before which this share of the interval's transactions lies; None without any."""
    statement = sql.SQL(
        "SELECT percentile_disc({}::float8) WITHIN GROUP (ORDER BY x.event_time) FROM transactions x"
        " WHERE x.contract = {} AND x.event_time <= {}{}"
    ).format(
        sql.Literal(share),
        sql.Literal(contract.schema_id),
        sql.Literal(as_of),
        interval.condition("x.event_time"),
    )
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement))
        row = cursor.fetchone()
    moment: datetime | None = row[0] if row else None
    return moment


def left_out(
    connection: Connection, contract: Contract, as_of: datetime, interval: Interval = EVERYTHING
) -> LeftOutCounts:
    """How many transactions of the interval are left out because they are blocked or too young.

    A blocked transaction needs an explicit label; any other may still be reported.
    """
    with connection, connection.cursor() as cursor:
        statement = sql.SQL(
            "SELECT count(*) FILTER (WHERE blocked), count(*) FILTER (WHERE NOT blocked) FROM ("
            " SELECT EXISTS (SELECT FROM predictions p WHERE p.transaction_id = x.transaction_id"
            "                AND p.deciding AND p.decision = 'block') AS blocked"
            " FROM transactions x"
            " LEFT JOIN (SELECT transaction_id AS labelled FROM labels_as_of({as_of}) WHERE mature) l"
            " ON l.labelled = x.transaction_id"
            " WHERE x.contract = {contract} AND x.event_time <= {as_of} AND l.labelled IS NULL{within}) rest"
        ).format(
            as_of=sql.Literal(as_of),
            contract=sql.Literal(contract.schema_id),
            within=interval.condition("x.event_time"),
        )
        read_whole_tables(cursor)
        interruptible(connection, lambda: cursor.execute(statement))
        row = cursor.fetchone()
    blocked, young = row or (0, 0)
    return {"left_out_blocked": blocked, "left_out_unknown": young}


def mature_labels(connection: Connection, ids: Sequence[str], as_of: datetime) -> dict[str, tuple[int, str]]:
    """The label and its source of each of these transactions that had a mature one at `as_of`, by id."""
    statement = (
        "SELECT transaction_id, label, source FROM labels_as_of(%s)"
        " WHERE mature AND transaction_id = ANY (%s::varchar[])"
    )
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement, (as_of, list(ids))))
        return {identifier: (label, source) for identifier, label, source in cursor.fetchall()}


def count_blocked(connection: Connection, ids: Sequence[str]) -> int:
    """How many of these transactions are blocked."""
    statement = (
        "SELECT count(DISTINCT transaction_id) FROM predictions"
        " WHERE deciding AND decision = 'block' AND transaction_id = ANY (%s::varchar[])"
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, (list(ids),))
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def from_batch(
    contract: Contract, batch: Batch, labels: NDArray[np.int8], source: str, label_sources: Sequence[str]
) -> pa.Table:
    """The rows of a batch with their n labels, as `read_examples` gives them, ordered by event time."""
    rows = len(batch)
    columns: dict[str, Any] = {
        ID: pa.array(batch.ids, pa.string()),
        TIME: pa.array(batch.event_times, MOMENT),
        LABEL: pa.array(labels, pa.int8()),
        SOURCE: pa.array([source] * rows, pa.string()),
        LABEL_SOURCE: pa.array(label_sources, pa.string()),
    }
    for field in contract.inputs:
        kind = pa.float64() if field.numeric else pa.string()
        columns[field.name] = pa.array(batch.columns[field.name], kind, from_pandas=field.numeric)
    return pa.table(columns).sort_by([(TIME, "ascending"), (ID, "ascending")])


def to_batch(contract: Contract, table: pa.Table) -> Batch:
    """The examples as a batch of the core."""
    columns: dict[str, Any] = {}
    for field in contract.inputs:
        column = table.column(field.name)
        if field.numeric:
            columns[field.name] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        else:
            columns[field.name] = np.array(column.to_pylist(), dtype=object)
    return Batch(table.column(ID).to_pylist(), table.column(TIME).to_pylist(), columns)


def _parsed(contract: Contract, text: memoryview) -> pa.Table:
    types: dict[str, pa.DataType] = {ID: pa.string(), TIME: pa.int64(), LABEL: pa.int8()}
    types |= {SOURCE: pa.string(), LABEL_SOURCE: pa.string()}
    types |= {field.name: pa.float64() if field.numeric else pa.string() for field in contract.inputs}
    # Postgres writes null as an empty field and an empty text as "".
    options = csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(text)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )
    position = table.schema.get_field_index(TIME)
    return table.set_column(position, TIME, table.column(TIME).cast(MOMENT))
