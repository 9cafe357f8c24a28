"""Counts what each arm of a release does, and adds it to the database every few seconds."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.postgres.release_counts import add_counts
from fraud_adapters.postgres.session import Cursor
from fraud_core.canary.evidence import SCORE_BINS, Arm
from fraud_core.predictions import Predictions

REPLICA: Final = f"{socket.gethostname()[:48]}:{os.getpid()}"


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


class Counts:
    """What this replica has counted since it was last added; safe to use from several threads.

    Args:
        slow_seconds: a call that takes longer is slow.
        clock: the current time.
    """

    def __init__(self, slow_seconds: float, clock: Callable[[], datetime]) -> None:
        self._slow_seconds = slow_seconds
        self._clock = clock
        self._sums: dict[_Key, _Sums] = {}
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

    def take(self) -> dict[_Key, Arm]:
        """What was counted since the last time."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return {key: one.arm() for key, one in sums.items()}

    def give_back(self, taken: dict[_Key, Arm]) -> None:
        """Count again what could not be added to the database."""
        with self._lock:
            for key, arm in taken.items():
                sums = self._sums.setdefault(key, _Sums())
                sums.calls += arm.calls
                sums.errors += arm.errors
                sums.slow += arm.slow
                sums.rows += arm.rows
                sums.flagged += arm.flagged
                sums.scores += np.array(arm.scores, dtype=np.int64)

    def _sums_of(self, stage: Stage, arm: str) -> _Sums:
        minute = self._clock().replace(second=0, microsecond=0)
        return self._sums.setdefault((stage, arm, minute), _Sums())

    def _count_call(self, sums: _Sums, rows: int, seconds: float) -> None:
        sums.calls += 1
        sums.rows += rows
        sums.slow += seconds > self._slow_seconds


def add_taken(cursor: Cursor, taken: dict[_Key, Arm]) -> None:
    """Add what a replica has counted, in the cursor's transaction."""
    for (stage, arm, minute), counts in sorted(taken.items(), key=lambda item: str(item[0])):
        add_counts(cursor, stage.deployment_id, stage.percent, arm, REPLICA, minute, counts)
