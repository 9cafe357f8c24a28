"""Confidence intervals by the bootstrap: of a figure, and of the paired difference of two models.

Frauds and other rows are drawn separately (stratified), so that every resample has the data's prior. The
interval is the percentile one (Efron and Tibshirani 1993, chapter 13), or the pivotal one for a figure that
resampling itself biases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_core.metrics import check_rows
from fraud_core.ranking import Figure, Floats, ranked

RESAMPLES = 1000
_CELLS = 1_000_000  # of the matrix of weights that is in memory at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds of its interval; NaN if it is undefined."""

    value: float
    low: float
    high: float


def interval(
    figure: Figure,
    labels: NDArray[np.int8],
    scores: Floats,
    *,
    amounts: Floats | None = None,
    weights: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    pivotal: bool = False,
) -> Interval:
    """The interval of one figure; see `intervals`."""
    return intervals(
        {"figure": figure},
        labels,
        scores,
        amounts=amounts,
        weights=weights,
        resamples=resamples,
        seed=seed,
        confidence=confidence,
        pivotal=("figure",) if pivotal else (),
    )["figure"]


def intervals(
    figures: Mapping[str, Figure],
    labels: NDArray[np.int8],
    scores: Floats,
    *,
    amounts: Floats | None = None,
    weights: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    pivotal: Sequence[str] = (),
) -> dict[str, Interval]:
    """The intervals of several figures from the same resamples.

    Args:
        figures: functions of a `Ranking`, by name.
        labels, scores, amounts: shape [n]; both classes occur. `amounts` is for figures in money.
        weights: how many transactions each row stands for, shape [n]; 1 by default.
        pivotal: the figures that noise only increases, such as a calibration error. Their interval is
            reflected at the value and not below zero.

    Raises:
        ValueError: shapes differ, a score is NaN, or one of the classes is absent.
    """
    check_rows(labels, scores)
    # Ordered once, so that the weights of a thousand resamples need not be.
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    amounts, weights = (None if of is None else of[order] for of in (amounts, weights))

    def measured(sample: Floats) -> dict[str, Floats]:
        ranking = ranked(labels, scores, amounts, sample)
        return {name: figure(ranking) for name, figure in figures.items()}

    values, drawn = _resampled(measured, labels, weights, resamples, seed)
    return {
        name: _interval(values[name], drawn[name], confidence, reflected=name in pivotal) for name in figures
    }


def paired_difference(
    figure: Figure,
    labels: NDArray[np.int8],
    scores_a: Floats,
    scores_b: Floats,
    *,
    amounts: Floats | None = None,
    weights: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The figure of a minus that of b; see `paired_differences`."""
    return paired_differences(
        {"figure": (figure, figure)},
        labels,
        scores_a,
        scores_b,
        amounts=amounts,
        weights=weights,
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )["figure"]


def paired_differences(
    figures: Mapping[str, tuple[Figure, Figure]],
    labels: NDArray[np.int8],
    scores_a: Floats,
    scores_b: Floats,
    *,
    amounts: Floats | None = None,
    weights: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """The differences, a minus b, of two models' figures on the same rows and in the same resamples.

    Args:
        figures: by name, the function for a and the one for b, which differ where a threshold belongs to one
            of the models.

    Raises:
        ValueError: as `intervals`.
    """
    for scores in (scores_a, scores_b):
        check_rows(labels, scores)
    order = np.argsort(-scores_a, kind="stable")
    labels, scores_a, scores_b = labels[order], scores_a[order], scores_b[order]
    amounts, weights = (None if of is None else of[order] for of in (amounts, weights))

    def measured(sample: Floats) -> dict[str, Floats]:
        a, b = (ranked(labels, scores, amounts, sample) for scores in (scores_a, scores_b))
        return {name: of_a(a) - of_b(b) for name, (of_a, of_b) in figures.items()}

    values, drawn = _resampled(measured, labels, weights, resamples, seed)
    return {name: _interval(values[name], drawn[name], confidence, reflected=False) for name in figures}


def _resampled(
    measured: Callable[[Floats], dict[str, Floats]],
    labels: NDArray[np.int8],
    weights: Floats | None,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The figures of the data, shape [1], and of the resamples, shape [resamples]."""
    base = np.ones((1, len(labels))) if weights is None else weights[None, :].astype(np.float64)
    values = measured(base)
    parts = [measured(counts * base) for counts in _draws(labels, resamples, seed)]
    return values, {name: np.concatenate([part[name] for part in parts]) for name in values}


def _draws(labels: NDArray[np.int8], resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row was drawn, shape [b, n], in portions of b resamples."""
    source = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == label) for label in (1, 0)]
    portion = max(1, _CELLS // len(labels))
    for start in range(0, resamples, portion):
        b = min(portion, resamples - start)
        counts = np.empty((b, len(labels)))
        for rows in strata:
            drawn = source.integers(0, len(rows), size=(b, len(rows)), dtype=np.int32).astype(np.intp)
            drawn += np.arange(b)[:, None] * len(rows)
            counts[:, rows] = np.bincount(drawn.ravel(), minlength=b * len(rows)).reshape(b, len(rows))
        yield counts


def _interval(value: Floats, drawn: Floats, confidence: float, *, reflected: bool) -> Interval:
    centre = float(value[0])
    # A figure that is undefined in some resamples is judged by the others.
    known = drawn[~np.isnan(drawn)]
    if np.isnan(centre) or not known.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(known, [tail, 1 - tail]))
    if reflected:
        low, high = max(0.0, 2 * centre - high), max(centre, 2 * centre - low)
    return Interval(centre, low, high)
