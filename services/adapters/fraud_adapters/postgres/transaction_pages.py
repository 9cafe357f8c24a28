"""Stored transactions of an interval, page by page, ordered by event time and id."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.examples import ID, Interval
from fraud_adapters.postgres.placement import placement
from fraud_core.contract import Contract

POSITION: Final = "_event_time"  # no field of a contract starts with an underscore


@dataclass(frozen=True, slots=True)
class Selection:
    """The transactions of a contract in an interval that were stored before a moment.

    What is stored later does not belong to it, so that a resumed run reads what it began with.
    """

    contract: Contract
    interval: Interval
    stored_before: datetime

    @property
    def condition(self) -> sql.Composable:
        text = sql.SQL(" WHERE x.contract = {} AND x.ingestion_timestamp < {}{}")
        within = self.interval.condition("x.event_time")
        return text.format(sql.Literal(self.contract.schema_id), sql.Literal(self.stored_before), within)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in their order, and the SHA-256 of their text, in hex.

    The columns are _event_time (text, to the microsecond), transaction_id, and each input field of the
    contract: float64 for numeric fields, text for others.
    """

    table: pa.Table
    digest: str


def count(connection: Connection, selection: Selection) -> int:
    """How many transactions are selected."""
    statement = sql.SQL("SELECT count(*) FROM transactions x{}").format(selection.condition)
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement))
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def read_page(connection: Connection, selection: Selection, after: tuple[str, str] | None, rows: int) -> Page:
    """The next `rows` selected transactions, by the index on event times.

    Args:
        after: event time and id of the last row of the page before, as its last row has them.
    """
    contract = selection.contract
    fields = [
        sql.SQL("{} AS {}").format(sql.SQL(expression), sql.Identifier(name))
        for name, expression in placement(contract).expressions(contract).items()
    ]
    behind = sql.SQL("")
    if after is not None:
        behind = sql.SQL(' AND (x.event_time, x.transaction_id COLLATE "C") > ({}::timestamptz, {})').format(
            *map(sql.Literal, after)
        )
    # The second comparison follows from the first one, and is what the index finds the page by.
    found = sql.SQL(" AND x.event_time >= {}::timestamptz").format(sql.Literal(after[0])) if after else behind
    query = sql.SQL(
        "COPY (SELECT x.event_time::text AS {position}, x.transaction_id, {fields} FROM transactions x"
        '{condition}{behind}{found} ORDER BY x.event_time, x.transaction_id COLLATE "C" LIMIT {rows})'
        " TO STDOUT (FORMAT csv, HEADER)"
    ).format(
        position=sql.Identifier(POSITION),
        fields=sql.SQL(", ").join(fields),
        condition=selection.condition,
        behind=behind,
        found=found,
        rows=sql.Literal(rows),
    )
    text = io.BytesIO()
    with connection, connection.cursor() as cursor:
        statement = query.as_string(cursor)
        interruptible(connection, lambda: cursor.copy_expert(statement, text))
    content = text.getbuffer()
    return Page(_parsed(contract, content), hashlib.sha256(content).hexdigest())


def _parsed(contract: Contract, text: memoryview) -> pa.Table:
    types = {POSITION: pa.string(), ID: pa.string()}
    types |= {field.name: pa.float64() if field.numeric else pa.string() for field in contract.inputs}
    # Postgres writes null as an empty field and an empty text as "".
    options = csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    return csv.read_csv(
        pa.BufferReader(pa.py_buffer(text)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )
