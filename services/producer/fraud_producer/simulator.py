"""Draws transactions from a population: vectorised, and the same for the same seed, run and index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.batch import Batch, Column
from fraud_core.contract import Contract
from fraud_core.identifiers import transaction_id
from fraud_core.quantise import quantise
from fraud_producer.population import (
    COORDINATES,
    FEATURES,
    HOURS,
    TAIL_SHARE,
    TAIL_WIDTH,
    Population,
)

CONTRACT: Final = "creditcard"
_HOUR_SECONDS: Final = 3600.0
# Spread of the delay until the truth is known, as the standard deviation of its logarithm.
_DELAY_SPREAD: Final = 0.5
# Columns of uniform numbers: class, side of the overlap, pattern, hour, second; then one a tailed coordinate.
_UNIFORMS: Final = 5


@dataclass(frozen=True, slots=True)
class Draw:
    """n transactions before quantisation.

    Attributes:
        values: v1 … v28 and the natural logarithm of the amount, shape [n, COORDINATES].
        seconds: second of the day, shape [n].
        labels: 1 is fraud, shape [n].
        delays: standard normal numbers for the delay of the label, shape [n].
    """

    values: NDArray[np.float64]
    seconds: NDArray[np.float64]
    labels: NDArray[np.int64]
    delays: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SimulatedBatch:
    """Transactions as they are sent, their truth, and when it becomes known."""

    batch: Batch
    labels: NDArray[np.int64]  # [n], 1 is fraud
    due: list[datetime]  # n aware times


def draw(population: Population, run_id: str, count: int, seconds: Column | None = None) -> Draw:
    """Draw `count` transactions; a longer run of the same id begins with those of a shorter one.

    Args:
        seconds: second of the day of each, shape [count]; drawn from the day's traffic if None.
    """
    key = [population.seed, int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:16], "big")]
    normals = np.random.default_rng([*key, 1]).standard_normal((count, COORDINATES + 1))
    uniforms = np.random.default_rng([*key, 2]).random((count, _UNIFORMS + len(population.tailed)))
    if seconds is None:
        hours = _choose(np.array(population.legitimate.hours), uniforms[:, 3])
        seconds = (hours + uniforms[:, 4]) * _HOUR_SECONDS
    hours = np.minimum(seconds // _HOUR_SECONDS, HOURS - 1).astype(np.int64)
    labels = (uniforms[:, 0] < population.fraud_rate).astype(np.int64)
    overlap = np.where(labels == 1, population.fraud_overlap, population.legitimate_overlap)
    looks_fraudulent = (labels == 1) ^ (uniforms[:, 1] < overlap)
    # Component 0 is legitimate, the patterns follow.
    mixes = np.cumsum(population.pattern_shares_by_hour(), axis=1)[hours]
    pattern = 1 + np.minimum((uniforms[:, 2, None] >= mixes).sum(axis=1), len(population.patterns) - 1)
    component = np.where(looks_fraudulent, pattern, 0)
    means = np.array([c.mean for c in (population.legitimate, *population.patterns)])
    scales = np.array([c.scale for c in (population.legitimate, *population.patterns)])
    noise = normals[:, :COORDINATES]
    for column, coordinate in enumerate(population.tailed, start=_UNIFORMS):
        noise[:, coordinate] *= np.where(uniforms[:, column] < TAIL_SHARE, TAIL_WIDTH, 1.0)
    values = means[component] + scales[component] * noise
    return Draw(values, seconds, labels, normals[:, COORDINATES])


@dataclass(frozen=True, slots=True)
class Simulator:
    """Generates transactions of a population, in the contract `creditcard`.

    Attributes:
        label_delay: median time from a transaction until its truth is known.
    """

    contract: Contract
    population: Population
    label_delay: timedelta

    def at(self, run_id: str, event_times: Sequence[datetime]) -> SimulatedBatch:
        """Transactions at given times (aware, in UTC), with ids from (seed, run id, index)."""
        seconds = np.array([_second_of_day(moment) for moment in event_times])
        drawn = draw(self.population, run_id, len(event_times), seconds)
        return self._simulated(run_id, drawn, list(event_times))

    def day(self, run_id: str, midnight: datetime, count: int) -> SimulatedBatch:
        """`count` transactions of the day that begins at `midnight` (UTC), spread as its traffic is."""
        drawn = draw(self.population, run_id, count)
        moments = [midnight + timedelta(seconds=round(second, 3)) for second in drawn.seconds.tolist()]
        return self._simulated(run_id, drawn, moments)

    def _simulated(self, run_id: str, drawn: Draw, moments: list[datetime]) -> SimulatedBatch:
        raw = {"time": np.array([seconds_of_year(moment) for moment in moments])}
        raw |= {f"v{number + 1}": drawn.values[:, number] for number in range(FEATURES)}
        raw["amount"] = np.exp(drawn.values[:, FEATURES])
        scales = {field.name: field.scale for field in self.contract.inputs}
        columns: dict[str, Column] = {name: quantise(values, scales[name]) for name, values in raw.items()}
        ids = [transaction_id(self.population.seed, run_id, index) for index in range(len(moments))]
        return SimulatedBatch(Batch(ids, moments, columns), drawn.labels, self.due(moments, drawn.delays))

    def due(self, moments: Sequence[datetime], delays: NDArray[np.float64]) -> list[datetime]:
        """When the truth about each is known, from standard normal numbers of shape [n]."""
        factors = np.exp(_DELAY_SPREAD * delays).tolist()
        return [moment + self.label_delay * factor for moment, factor in zip(moments, factors, strict=True)]


def seconds_of_year(moment: datetime) -> float:
    """Seconds since 1 January, 00:00 UTC, of the moment's year: the field `time` of what is simulated."""
    return (moment - datetime(moment.year, 1, 1, tzinfo=UTC)).total_seconds()


def _second_of_day(moment: datetime) -> float:
    return seconds_of_year(moment) % 86_400


def _choose(shares: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    steps = np.cumsum(shares)
    return np.minimum(np.searchsorted(steps, uniforms, side="right"), len(shares) - 1).astype(np.int64)
