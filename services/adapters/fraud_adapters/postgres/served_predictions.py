"""How fast and how many predictions were made in a window, by the table `predictions`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible

ALL: Final = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of deciding predictions: of single ones from the request's head to the answer, of the
    stream's from sending a batch to its answer.

    Attributes:
        engine: `onnx`, which scores single transactions, or `xgboost`, which scores batches; `ALL` for both.
    """

    engine: str
    predictions: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Served:
    """The predictions of a window; `peak` is the largest number in a minute."""

    latencies: tuple[Latency, ...]
    peak: int

    @property
    def total(self) -> Latency:
        return next((one for one in self.latencies if one.engine == ALL), Latency(ALL, 0, None, None, None))


def read_served(connection: Connection, start: datetime, end: datetime) -> Served:
    """The deciding predictions from `start` on and before `end`, by the index of their time."""
    values = {"start": start, "end": end}
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(_LATENCY, values))
        latencies = tuple(
            Latency(engine or ALL, count, *(quantiles or (None, None, None)))
            for engine, count, quantiles in cursor.fetchall()
            if count
        )
        interruptible(connection, lambda: cursor.execute(_PEAK, values))
        row = cursor.fetchone()
    return Served(latencies, int(row[0]) if row else 0)


def count_vectors(connection: Connection, start: datetime, end: datetime, width: int) -> tuple[int, int]:
    """How many deciding predictions there are, and how many whose vector has another width or a null."""
    with connection, connection.cursor() as cursor:
        values = {"start": start, "end": end, "width": width}
        interruptible(connection, lambda: cursor.execute(_VECTORS, values))
        row = cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


_VECTORS: Final = """
    SELECT count(*), count(*) FILTER (WHERE cardinality(feature_vector) <> %(width)s
                                      OR array_position(feature_vector, NULL) IS NOT NULL)
    FROM predictions WHERE prediction_time >= %(start)s AND prediction_time < %(end)s AND deciding
"""
_LATENCY: Final = """
    SELECT split_part(engine, '-', 1), count(*),
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms)
    FROM predictions WHERE prediction_time >= %(start)s AND prediction_time < %(end)s AND deciding
    GROUP BY GROUPING SETS ((1), ()) ORDER BY 1 NULLS FIRST
"""
_PEAK: Final = """
    SELECT coalesce(max(minute.rows), 0) FROM (
        SELECT count(*) AS rows FROM predictions
        WHERE prediction_time >= %(start)s AND prediction_time < %(end)s AND deciding
        GROUP BY date_trunc('minute', prediction_time)
    ) minute
"""
