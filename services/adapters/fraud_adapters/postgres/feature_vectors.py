"""Reads the feature vectors of a window's deciding predictions, portion by portion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible

PORTION: Final = 16_384  # rows given at once
_HEAD: Final = 19  # bytes before the first row of a binary COPY
# Before the values of a row: the number of fields, the field's length, and the array's own header.
_ROW_HEAD: Final = 2 + 4 + 20
_NOT_USABLE: Final = (
    "cardinality(feature_vector) <> %(width)s OR array_position(feature_vector, NULL) IS NOT NULL"
)


def count_vectors(connection: Connection, start: datetime, end: datetime, width: int) -> tuple[int, int]:
    """How many deciding predictions there are, and how many whose vector has another width or a null."""
    with connection, connection.cursor() as cursor:
        values = {"start": start, "end": end, "width": width}
        interruptible(connection, lambda: cursor.execute(_COUNT, values))
        row = cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def read_vectors(
    connection: Connection,
    start: datetime,
    end: datetime,
    width: int,
    take: Callable[[NDArray[np.float32]], object],
) -> None:
    """Give the vectors of that width, as arrays of shape [up to `PORTION`, width], NaN where missing.

    By a binary COPY, whose rows all have the same length, so that nothing is parsed row by row.
    """
    sink = _Sink(width, take)
    with connection, connection.cursor() as cursor:
        statement = (
            sql.SQL(_COPY)
            .format(start=sql.Literal(start), end=sql.Literal(end), width=sql.Literal(width))
            .as_string(cursor)
        )
        interruptible(connection, lambda: cursor.copy_expert(statement, sink))
    sink.finish()


class _Sink:
    """Takes the bytes of a binary COPY, and gives the rows on as arrays."""

    def __init__(self, width: int, take: Callable[[NDArray[np.float32]], object]) -> None:
        values: Any = np.dtype([("length", ">i4"), ("value", ">f4")])
        self._row = np.dtype([("head", f"V{_ROW_HEAD}"), ("values", values, (width,))])
        self._take = take
        self._bytes = bytearray()
        self._headed = False

    def write(self, data: bytes) -> None:
        self._bytes += data
        if not self._headed and len(self._bytes) >= _HEAD:
            del self._bytes[:_HEAD]
            self._headed = True
        if len(self._bytes) >= PORTION * self._row.itemsize:
            self._give(PORTION)

    def finish(self) -> None:
        """Give the remaining rows, without the trailer."""
        if rows := len(self._bytes) // self._row.itemsize:
            self._give(rows)

    def _give(self, rows: int) -> None:
        size = rows * self._row.itemsize
        content = np.frombuffer(bytes(self._bytes[:size]), dtype=self._row)
        del self._bytes[:size]
        self._take(content["values"]["value"].astype(np.float32))


_WHERE: Final = "FROM predictions WHERE prediction_time >= {start} AND prediction_time < {end} AND deciding"
_COUNT: Final = f"SELECT count(*), count(*) FILTER (WHERE {_NOT_USABLE}) " + _WHERE.format(  # noqa: S608
    start="%(start)s", end="%(end)s"
)
_COPY: Final = (
    f"COPY (SELECT feature_vector {_WHERE} AND cardinality(feature_vector) = {{width}}"  # noqa: S608
    " AND array_position(feature_vector, NULL) IS NULL) TO STDOUT (FORMAT binary)"
)
