"""The metrics of the best possible classifier, from the simulator's own densities.

By the Neyman-Pearson lemma no classifier beats a threshold on the likelihood ratio of the classes. The ratio
is computed exactly for each point of a large sample with a fixed seed; the sample is used only for
integration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from config.job_results.producer import OptimumResult
from fraud_core.gate import GatePolicy
from fraud_core.metrics import Curve, curve, roc_auc
from fraud_producer.population import (
    COORDINATES,
    TAIL_SHARE,
    TAIL_WIDTH,
    Component,
    Population,
)
from fraud_producer.simulator import draw

SAMPLE: Final = 300_000  # standard error: .0004 of the recall, .0001 of the FPR
_PIECE: Final = 25_000
_HOUR_SECONDS: Final = 3600.0
_LOG_ROOT_TWO_PI: Final = 0.9189385332046727


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best possible figures at the population's fraud rate.

    `threshold` is on the likelihood ratio. The operating point is that of the highest F1 among those within
    the policy's bounds on recall, FPR and F1 (`bounds`), or, if there is none (`reachable` false), of all.
    """

    population: str
    fraud_rate: float
    overlap: float
    recall: float
    fpr: float
    precision: float
    f1: float
    roc_auc: float
    average_precision: float
    threshold: float
    bounds: dict[str, float]
    reachable: bool
    sample: int

    def to_mapping(self) -> OptimumResult:
        return cast(OptimumResult, asdict(self))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Optimum:
        return cls(**values)


def bounds_of(policy: GatePolicy) -> dict[str, float]:
    """The policy's bounds that concern an operating point."""
    return {name: bound for name, _, bound in policy.bounds() if name in {"recall", "fpr", "f1"}}


def log_likelihood_ratio(
    population: Population, values: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """ln p(x | fraud) / p(x | legitimate), shape [n], of points as `Draw` holds them."""
    hours = np.minimum(seconds // _HOUR_SECONDS, 23).astype(np.int64)
    points = np.concatenate([values * values, values], axis=1)
    legitimate = _log_density(population, population.legitimate, values, points, hours)
    # Everything relative to the legitimate core: the common part cancels.
    core = np.full(len(values), -np.inf)
    for pattern, share in zip(population.patterns, population.shares, strict=True):
        relative = _log_density(population, pattern, values, points, hours) - legitimate
        core = np.logaddexp(core, relative + np.log(share))
    fraud, other = population.fraud_overlap, population.legitimate_overlap
    with np.errstate(divide="ignore"):
        above = np.logaddexp(np.log1p(-fraud) + core, np.log(fraud))
        below = np.logaddexp(np.log1p(-other), np.log(other) + core)
    ratio: NDArray[np.float64] = above - below
    return ratio


def compute(population: Population, policy: GatePolicy, sample: int = SAMPLE) -> Optimum:
    """Integrate the optimal rule over a fixed sample, one third of it frauds."""
    points = curve(*_scored_sample(population, sample))
    rate = population.fraud_rate
    recall, fpr = points.recall, points.fpr
    precision = rate * recall / (rate * recall + (1 - rate) * fpr)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    bounds = bounds_of(policy)
    within = recall >= bounds.get("recall", 0.0)
    within &= (fpr <= bounds.get("fpr", 1.0)) & (f1 >= bounds.get("f1", 0.0))
    reachable = bool(within.any())
    best = int(np.argmax(np.where(within, f1, -1.0) if reachable else f1))
    return Optimum(
        population=population.digest,
        fraud_rate=rate,
        overlap=population.overlap,
        recall=float(recall[best]),
        fpr=float(fpr[best]),
        precision=float(precision[best]),
        f1=float(f1[best]),
        roc_auc=roc_auc(points),
        average_precision=_average_precision(points, precision),
        threshold=float(np.exp(points.thresholds[best])),
        bounds=bounds,
        reachable=reachable,
        sample=sample,
    )


def _scored_sample(population: Population, sample: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and log likelihood ratios of a fixed sample, a third of it frauds; in pieces."""
    enriched = replace(population, fraud_rate=1 / 3)
    labels, ratios = [], []
    for start in range(0, sample, _PIECE):
        drawn = draw(enriched, f"optimum/{start}", min(_PIECE, sample - start))
        labels.append(drawn.labels)
        ratios.append(log_likelihood_ratio(population, drawn.values, drawn.seconds))
    return np.concatenate(labels), np.concatenate(ratios)


def _average_precision(points: Curve, precision: NDArray[np.float64]) -> float:
    return float(np.sum(np.diff(points.recall, prepend=0.0) * precision))


def _log_density(
    population: Population,
    component: Component,
    values: NDArray[np.float64],
    points: NDArray[np.float64],
    hours: NDArray[np.int64],
) -> NDArray[np.float64]:
    """ln of a component's density; `points` is [x², x], so that the normal coordinates are one product."""
    mean, scale = np.array(component.mean), np.array(component.scale)
    normal = np.ones(COORDINATES, dtype=bool)
    normal[list(population.tailed)] = False
    inverse = np.where(normal, 0.5 / scale**2, 0.0)
    weights = np.concatenate([-inverse, 2 * inverse * mean])
    constant = -float(np.sum(inverse * mean**2) + np.sum(np.log(scale)) + COORDINATES * _LOG_ROOT_TWO_PI)
    total: NDArray[np.float64] = points @ weights + constant
    for coordinate in population.tailed:
        z = (values[:, coordinate] - mean[coordinate]) / scale[coordinate]
        squares = -0.5 * z * z
        total += np.log(
            (1 - TAIL_SHARE) * np.exp(squares) + TAIL_SHARE / TAIL_WIDTH * np.exp(squares / TAIL_WIDTH**2)
        )
    with np.errstate(divide="ignore"):
        total += np.log(np.array(component.hours))[hours]
    return total
