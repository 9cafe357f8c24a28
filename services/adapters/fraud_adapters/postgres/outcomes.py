"""Deciding predictions of a period of event time, with their mature labels.

Only the SQL function `labels_as_of` decides which labels are mature. It is asked for each transaction of the
period by index, so that the cost follows the period and not the history.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from pyarrow import csv

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.placement import placement
from fraud_core.contract import Contract
from fraud_core.performance.figures import DECISIONS, Judged

_TYPES: Final = {
    "version": pa.string(),
    "score": pa.float64(),
    "flagged": pa.int8(),
    "decision": pa.int8(),
    "label": pa.int8(),
    "amount": pa.float64(),
}


@dataclass(frozen=True, slots=True)
class VersionOutcomes:
    """What one version decided in the period.

    Attributes:
        judged: its predictions with a mature label.
        left_out_blocked: blocked ones without an explicit label, of which the truth is not known.
        left_out_unknown: others whose label is not mature.
    """

    version: str
    judged: Judged
    left_out_blocked: int
    left_out_unknown: int


def read_outcomes(
    connection: Connection, contract: Contract, as_of: datetime, start: datetime, end: datetime
) -> list[VersionOutcomes]:
    """What each version decided about transactions that happened from `start` on and before `end`."""
    amount = contract.with_role("amount")
    expression = "NULL" if amount is None else placement(contract).expressions(contract)[amount.name]
    query = sql.SQL(_COPY).format(
        amount=sql.SQL(expression),
        decisions=sql.Literal(list(DECISIONS)),
        as_of=sql.Literal(as_of),
        contract=sql.Literal(contract.schema_id),
        start=sql.Literal(start),
        end=sql.Literal(end),
    )
    text = io.BytesIO()
    with connection, connection.cursor() as cursor:
        statement = query.as_string(cursor)
        interruptible(connection, lambda: cursor.copy_expert(statement, text))
    return list(_by_version(text.getbuffer(), has_amount=amount is not None))


def _by_version(text: memoryview, *, has_amount: bool) -> Iterator[VersionOutcomes]:
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(text)),
        convert_options=csv.ConvertOptions(column_types=_TYPES, null_values=[""], strings_can_be_null=True),
    )
    for version in sorted(pc.unique(table["version"]).to_pylist()):
        own = table.filter(pc.equal(table["version"], version))
        known = own.filter(pc.is_valid(own["label"]))
        blocked = pc.and_(pc.is_null(own["label"]), pc.equal(own["decision"], DECISIONS.index("block")))
        left_out = pc.sum(pc.cast(blocked, pa.int64())).as_py() or 0
        judged = Judged(
            labels=_column(known, "label"),
            scores=_column(known, "score"),
            flagged=_column(known, "flagged").astype(np.bool_),
            decisions=_column(known, "decision"),
            amounts=_column(known, "amount") if has_amount else None,
        )
        yield VersionOutcomes(version, judged, left_out, len(own) - len(known) - left_out)


def _column(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy()


# OFFSET 0 keeps the planner from turning the question for each transaction into a join with all labels.
_COPY: Final = """
    COPY (
        SELECT p.model_version AS version, p.score, p.is_fraud_predicted::integer AS flagged,
               array_position({decisions}::text[], p.decision::text) - 1 AS decision, l.label,
               {amount} AS amount
        FROM transactions x
        JOIN predictions p ON p.transaction_id = x.transaction_id AND p.deciding
        LEFT JOIN LATERAL (
            SELECT known.label FROM labels_as_of({as_of}) known
            WHERE known.transaction_id = x.transaction_id AND known.mature
            OFFSET 0
        ) l ON true
        WHERE x.event_time >= {start} AND x.event_time < {end} AND x.contract = {contract}
    ) TO STDOUT (FORMAT csv, HEADER)
"""
