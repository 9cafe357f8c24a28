"""Reads the windows that drift is looked for in: one pass over the long one, which contains the short one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.postgres import model_versions
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.scored_windows import (
    ScoredRows,
    ScoredWindow,
    count_ahead,
    microseconds,
    read_scored,
)
from fraud_core.drift.window import WindowCounts
from fraud_core.profile import Profile
from fraud_monitor.run_context import Champion, RunContext


@dataclass(slots=True)
class CountedWindow:
    """A window of time and its counts.

    Attributes:
        first, last: when the first and the last of its rows were scored, in microseconds; None without rows.
    """

    name: str
    start: datetime
    end: datetime
    counts: WindowCounts
    first: int | None = None
    last: int | None = None

    def add(self, rows: ScoredRows) -> None:
        if not len(rows.scores):
            return
        self.counts.add(rows.features)
        own = rows.by_champion
        self.counts.add_scores(rows.scores[own], rows.flagged[own])
        low, high = int(rows.microseconds.min()), int(rows.microseconds.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)

    def covers(self, period: timedelta) -> bool:
        """Whether its rows reach over nearly all of a period."""
        if self.first is None or self.last is None:
            return False
        return self.last - self.first >= 0.9 * period / timedelta(microseconds=1)


class Sample:
    """A uniform sample of rows that come piece by piece: those with the smallest random keys."""

    def __init__(self, size: int, width: int, seed: int) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._keys: NDArray[np.float64] = np.empty(0)
        self.features: NDArray[np.float32] = np.empty((0, width), np.float32)
        self.scores: NDArray[np.float64] = np.empty(0)

    def add(self, rows: ScoredRows) -> None:
        keys = np.concatenate([self._keys, self._random.random(len(rows.scores))])
        kept = np.argsort(keys)[: self._size]
        self._keys = keys[kept]
        self.features = np.concatenate([self.features, rows.features])[kept]
        self.scores = np.concatenate([self.scores, rows.scores])[kept]


@dataclass(frozen=True, slots=True)
class Reading:
    """Both windows, the short one first, as of the database's time `now`.

    Attributes:
        ahead: predictions with a time that has not come.
        sample: of the short window.
    """

    now: datetime
    windows: tuple[CountedWindow, ...]
    ahead: int
    sample: Sample


def read_windows(context: RunContext, champion: Champion, profile: Profile) -> Reading:
    """Count what was scored in the windows into the bins of the champion's profile."""
    settings = context.parameters.drift
    width = len(profile.features)
    with closing(context.database()) as connection:
        now = database_clock(connection)
        with connection, connection.cursor() as cursor:
            versions = model_versions.versions_of_contract(cursor, context.contract.schema_id)
        short, long = (
            CountedWindow(name_of(period), now - period, now, WindowCounts(profile))
            for period in (settings.last, settings.long)
        )
        sample = Sample(settings.report_rows, width, microseconds(now))

        def receive(rows: ScoredRows) -> None:
            long.add(rows)
            recent = rows.since(short.start)
            short.add(recent)
            sample.add(recent)

        read_scored(connection, ScoredWindow(versions, champion.version, width, long.start, now), receive)
        ahead = count_ahead(connection, versions, now)
    return Reading(now, (short, long), ahead, sample)


def name_of(period: timedelta) -> str:
    """`hour`, `day`, or for others their length such as `10 min`."""
    if period in {timedelta(hours=1), timedelta(days=1)}:
        return "hour" if period == timedelta(hours=1) else "day"
    minutes = period / timedelta(minutes=1)
    return f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes:g} min"
