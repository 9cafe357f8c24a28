"""What was scored in a window of time: read in one pass, in COPY's binary format, with flat memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible

_HEADER_BYTES: Final = 19  # signature, flags, length of the header's extension
_TRAILER_BYTES: Final = 2
_PIECE_ROWS: Final = 20_000
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Deciding predictions, n of them.

    Attributes:
        microseconds: since 2000, of the prediction; int64 [n].
        by_champion: whether the champion made it; bool [n].
        flagged: whether a fraud is predicted; bool [n].
        scores: float64 [n].
        features: float32 [n, k], NaN where missing.
    """

    microseconds: NDArray[np.int64]
    by_champion: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    scores: NDArray[np.float64]
    features: NDArray[np.float32]

    def since(self, moment: datetime) -> ScoredRows:
        """The rows from that moment on."""
        kept = self.microseconds >= microseconds(moment)
        return ScoredRows(
            self.microseconds[kept],
            self.by_champion[kept],
            self.flagged[kept],
            self.scores[kept],
            self.features[kept],
        )


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """Which predictions are read: made from `start` on and before `end`, by any of these versions.

    Attributes:
        champion: the version whose scores are judged.
        width: how many features a prediction has; others are of an older contract and left out.
    """

    versions: Sequence[str]
    champion: str
    width: int
    start: datetime
    end: datetime


def read_scored(connection: Connection, window: ScoredWindow, receive: Callable[[ScoredRows], None]) -> None:
    """Pass the deciding predictions of a window on, some thousand at a time, in no particular order.

    Raises:
        ValueError: the server sends rows of another layout.
    """
    statement = sql.SQL(
        "COPY (SELECT prediction_time, model_version = {champion}, is_fraud_predicted, score, feature_vector"
        " FROM predictions WHERE deciding AND model_version = ANY ({versions})"
        " AND prediction_time >= {start} AND prediction_time < {end}"
        " AND cardinality(feature_vector) = {width}"
        " AND array_position(feature_vector, NULL) IS NULL) TO STDOUT (FORMAT binary)"
    ).format(
        champion=sql.Literal(window.champion),
        versions=sql.Literal(list(window.versions)),
        start=sql.Literal(window.start),
        end=sql.Literal(window.end),
        width=sql.Literal(window.width),
    )
    pieces = _Pieces(window.width, receive)
    with connection, connection.cursor() as cursor:
        text = statement.as_string(cursor)
        interruptible(connection, lambda: cursor.copy_expert(text, pieces))
    pieces.close()


def count_ahead(connection: Connection, versions: Sequence[str], now: datetime) -> int:
    """How many deciding predictions have a time that has not come: the clock of who made them is ahead."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM predictions"
            " WHERE deciding AND model_version = ANY (%s) AND prediction_time >= %s",
            (list(versions), now),
        )
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def microseconds(moment: datetime) -> int:
    """As Postgres counts them, from 2000 on."""
    return (moment - _EPOCH) // _MICROSECOND


class _Pieces:
    """The file that COPY writes to: parses whole rows, which all have the same size."""

    def __init__(self, width: int, receive: Callable[[ScoredRows], None]) -> None:
        self._layout = _layout(width)
        self._receive = receive
        self._buffer = bytearray()
        self._header = _HEADER_BYTES

    def write(self, content: bytes) -> int:
        self._buffer += content
        if self._header and len(self._buffer) >= self._header:
            del self._buffer[: self._header]
            self._header = 0
        if not self._header and len(self._buffer) >= _PIECE_ROWS * self._layout.itemsize:
            self._pass_on()
        return len(content)

    def close(self) -> None:
        self._pass_on()
        if bytes(self._buffer) != struct.pack(">h", -1):
            raise ValueError("the server sent rows of predictions in another layout")

    def _pass_on(self) -> None:
        rows = max(0, len(self._buffer) - _TRAILER_BYTES) // self._layout.itemsize
        if not rows:
            return
        size = rows * self._layout.itemsize
        parsed = np.frombuffer(bytes(self._buffer[:size]), dtype=self._layout)
        del self._buffer[:size]
        if (parsed["fields"] != 5).any() or (parsed["features"]["size"] != 4).any():
            raise ValueError("the server sent rows of predictions in another layout")
        self._receive(
            ScoredRows(
                parsed["microseconds"].astype(np.int64),
                parsed["by_champion"].astype(bool),
                parsed["flagged"].astype(bool),
                parsed["score"].astype(np.float64),
                np.ascontiguousarray(parsed["features"]["value"].astype(np.float32)),
            )
        )


def _layout(width: int) -> np.dtype[Any]:
    """A row of COPY: each field follows its length; of an array each element does, too."""
    element = np.dtype([("size", ">i4"), ("value", ">f4")])
    return np.dtype(
        [
            ("fields", ">i2"),
            ("time_size", ">i4"),
            ("microseconds", ">i8"),
            ("champion_size", ">i4"),
            ("by_champion", "u1"),
            ("flagged_size", ">i4"),
            ("flagged", "u1"),
            ("score_size", ">i4"),
            ("score", ">f8"),
            ("array_size", ">i4"),
            ("array_head", ">i4", (5,)),
            ("features", element, (width,)),
        ]
    )
