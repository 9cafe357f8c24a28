"""The time of a commit, bracketed by two clocks.

The commit record's own time (`track_commit_timestamp`) is taken just before the log is flushed, so it is a
little too early. A second session that looks at the follower's position every few milliseconds sees a commit
only when it is durable and visible, so its time is a little too late.
"""

from __future__ import annotations

import time
from contextlib import closing
from threading import Event, Thread
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import psycopg2
from numpy.typing import NDArray

LOOK_SECONDS: Final = 0.003
_POSITIONS: Final = "SELECT partition, next_offset FROM stream_offsets WHERE topic = %s"


class Watch(Thread):
    """Records when each change of a partition's position was first seen."""

    def __init__(self, url: str, topic: str) -> None:
        super().__init__(name="watch", daemon=True)
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        self._topic = topic
        self._over = Event()
        self._seen: dict[int, list[tuple[float, int]]] = {}

    def run(self) -> None:
        with closing(self._connection), self._connection.cursor() as cursor:
            cursor.execute(f"PREPARE look AS {_POSITIONS.replace('%s', '$1')}")
            over = False
            while not over:
                over = self._over.is_set()  # read before the query, so that the last commits are included
                cursor.execute("EXECUTE look (%s)", (self._topic,))
                rows, now = cursor.fetchall(), time.time()
                for partition, position in rows:
                    moves = self._seen.setdefault(partition, [(now, 0)])
                    if position != moves[-1][1]:
                        moves.append((now, position))
                time.sleep(LOOK_SECONDS)

    def reached(self) -> int:
        """How many records of all partitions were seen to be committed so far."""
        return sum(moves[-1][1] for moves in list(self._seen.values()))

    def seen(self, partitions: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n] when each record was first seen to be committed, seconds since 1970; NaN if never."""
        moments = np.full(len(offsets), np.nan)
        for partition, moves in self._seen.items():
            times, positions = (np.array(column) for column in zip(*moves, strict=True))
            indices = np.flatnonzero(partitions == partition)
            at = np.searchsorted(positions, offsets[indices], side="right")
            known = at < len(times)
            moments[indices[known]] = times[at[known]]
        return moments

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()


def check_commit_clock(url: str) -> None:
    """Assert that the commit record's time is between our clock before and after COMMIT.

    Raises:
        AssertionError: it is not, so its times cannot be used.
    """
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE commit_clock (n integer)")
        connection.commit()
        cursor.execute("INSERT INTO commit_clock VALUES (1)")
        time.sleep(0.2)  # now() would be the start of the transaction
        before = time.time()
        connection.commit()
        after = time.time()
        cursor.execute("SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM commit_clock")
        row: Any = cursor.fetchone()
        cursor.execute("DROP TABLE commit_clock")
        connection.commit()
    assert before - 1e-5 <= row[0] <= after + 1e-5, (before, row[0], after)


def committed(url: str) -> tuple[list[str], NDArray[np.float64], list[int]]:
    """The id and commit time of each stored transaction, and the sizes of the batches."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT transaction_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 "
            "FROM transactions"
        )
        rows = cursor.fetchall()
        cursor.execute("SELECT count(*)::int FROM transactions GROUP BY pg_xact_commit_timestamp(xmin)")
        sizes = [size for (size,) in cursor.fetchall()]
    return [name for name, _ in rows], np.array([moment for _, moment in rows], dtype=np.float64), sizes
