"""Counts what each arm of a release does, and stores it in the database every few seconds.

A replica stores its sums, not what came since the last time: stored twice, because the answer to a COMMIT was
lost, they count once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.postgres.release_counts import store_counts
from fraud_adapters.postgres.session import Cursor
from fraud_core.canary.evidence import SCORE_BINS, Arm
from fraud_core.predictions import Predictions


@dataclass(frozen=True, slots=True)
class Stage:
    """A release with one share of traffic."""

    deployment_id: int
    percent: int


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    errors: int = 0
    slow: int = 0
    rows: int = 0
    flagged: int = 0
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))

    def arm(self) -> Arm:
        return Arm(self.calls, self.errors, self.slow, self.rows, self.flagged, tuple(map(int, self.scores)))


_Key = tuple[Stage, str, datetime]
Sums = dict[_Key, Arm]
"""By stage, arm and minute."""


class Counts:
    """What this replica has counted; safe to use from several threads.

    Args:
        slow_seconds: a call that takes longer is slow.
        clock: the current time.

    Attributes:
        replica: names this process; not even a container of the same name that starts again has it.
    """

    def __init__(self, slow_seconds: float, clock: Callable[[], datetime]) -> None:
        self.replica = f"{socket.gethostname()[:39]}:{os.getpid()}:{uuid4().hex[:8]}"
        self._slow_seconds = slow_seconds
        self._clock = clock
        self._sums: dict[_Key, _Sums] = {}
        self._stored: dict[_Key, Arm] = {}
        self._lock = Lock()

    def scored(self, stage: Stage, arm: str, predictions: Predictions, seconds: float) -> None:
        """Count one call that scored the arm's rows of a request."""
        bins = np.minimum((predictions.scores * SCORE_BINS).astype(np.intp), SCORE_BINS - 1)
        with self._lock:
            sums = self._sums_of(stage, arm)
            self._count_call(sums, len(predictions), seconds)
            sums.flagged += int(np.count_nonzero(predictions.predicted))
            np.add.at(sums.scores, bins, 1)

    def failed(self, stage: Stage, arm: str, rows: int, seconds: float) -> None:
        """Count one call in which the arm's model did not score its rows."""
        with self._lock:
            sums = self._sums_of(stage, arm)
            self._count_call(sums, rows, seconds)
            sums.errors += 1

    def unstored(self) -> Sums:
        """The sums that have changed since they were stored."""
        with self._lock:
            sums = {key: one.arm() for key, one in self._sums.items()}
            return {key: arm for key, arm in sums.items() if self._stored.get(key) != arm}

    def mark_stored(self, sums: Sums) -> None:
        """Note what the database has; of minutes that are over and stored nothing is kept."""
        minute = self._minute()
        with self._lock:
            self._stored |= sums
            for key, stored in list(self._stored.items()):
                if key[2] < minute and self._sums[key].arm() == stored:
                    del self._sums[key], self._stored[key]

    def _minute(self) -> datetime:
        return self._clock().replace(second=0, microsecond=0)

    def _sums_of(self, stage: Stage, arm: str) -> _Sums:
        return self._sums.setdefault((stage, arm, self._minute()), _Sums())

    def _count_call(self, sums: _Sums, rows: int, seconds: float) -> None:
        sums.calls += 1
        sums.rows += rows
        sums.slow += seconds > self._slow_seconds


def store_sums(cursor: Cursor, replica: str, sums: Sums) -> None:
    """Store the sums of a replica, in the cursor's transaction."""
    for (stage, arm, minute), counts in sorted(sums.items(), key=lambda item: str(item[0])):
        store_counts(cursor, stage.deployment_id, stage.percent, arm, replica, minute, counts)
