"""Compares options without the later parts: learn from earlier rows, score the next block of time, go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.candidates import Imbalance
from fraud_core import ranking
from fraud_trainer.candidates.model_types import CandidateFailed, Learner, Rows, row_weights

_FIRST_SHARE: Final = 0.4  # of the rows, which only learn
_STOPPING_SHARE: Final = 0.1  # of the rows before a block
_SMOTE_SHARE: Final = 0.25  # frauds for each legitimate row after SMOTE
_NEIGHBOURS: Final = 5
_RESAMPLINGS: Final = 100
_CELLS: Final = 1_000_000  # of the matrix of weights that is in memory at once


def average_precision(
    labels: NDArray[np.int8], scores: NDArray[np.float32], weights: NDArray[np.float32]
) -> float | None:
    """The average precision of weighted rows, all [n]; None where a class is absent."""
    (value,) = _average_precisions(labels, scores, weights[None, :])
    return None if np.isnan(value) else float(value)


def _average_precisions(
    labels: NDArray[np.int8], scores: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """As `average_precision` under several weightings, [b, n] → [b]; NaN where a class has no weight."""
    total, frauds = weights.sum(axis=1), weights[:, labels == 1].sum(axis=1)
    known = (frauds > 0) & (frauds < total)
    result = np.full(len(weights), np.nan)
    if known.any():
        rows = ranking.ranked(labels, scores.astype(np.float64), weights=weights[known].astype(np.float64))
        result[known] = ranking.average_precision(rows)
    return result


def gain_is_certain(
    rows: Rows,
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    *,
    margin: float,
    confidence: float,
    seed: int,
) -> bool:
    """Whether `second` has a better average precision than `first` by more than `margin`, and not by chance.

    The rows are resampled, the same for both, by Poisson weights: in the share `confidence` of the samples
    `second` must be better. Scores are [n].
    """
    weights = row_weights(rows)

    def gains(counts: NDArray[np.float32]) -> NDArray[np.float64]:
        before, after = (_average_precisions(rows.labels, scores, counts) for scores in (first, second))
        return np.nan_to_num(after - before)

    if gains(weights[None, :])[0] <= margin:
        return False
    source, better = np.random.default_rng(seed), 0
    portion = max(1, _CELLS // len(rows))
    for start in range(0, _RESAMPLINGS, portion):
        drawn = source.poisson(1.0, (min(portion, _RESAMPLINGS - start), len(rows)))
        better += int(np.count_nonzero(gains(weights * drawn.astype(np.float32)) > 0))
    return better >= confidence * _RESAMPLINGS


def blocks(rows: Rows, count: int) -> Iterator[tuple[Rows, Rows, Rows]]:
    """For each block what learns, what may end the fit, and the block itself, in this order of time."""
    bounds = np.linspace(_FIRST_SHARE, 1, count + 1) * len(rows)
    for start, end in zip(bounds[:-1].astype(int), bounds[1:].astype(int), strict=True):
        stopping = int(start * (1 - _STOPPING_SHARE))
        yield rows.take(slice(0, stopping)), rows.take(slice(stopping, start)), rows.take(slice(start, end))


def prequential_score(learner: Learner, rows: Rows, count: int, option: Imbalance, seed: int) -> float | None:
    """The mean average precision over the blocks that can be scored; None if there is none.

    Raises:
        CandidateFailed: the learner or the option does not work on this data.
    """
    scores = []
    for train, stopping, block in blocks(rows, count):
        if min(_classes(part) for part in (train, stopping, block)) < 2:
            continue
        margins = learner.fit(*balanced(train, stopping, option, seed)).margins(block)
        scores.append(average_precision(block.labels, margins, row_weights(block)))
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else None


def balanced(train: Rows, stopping: Rows, option: Imbalance, seed: int) -> tuple[Rows, Rows]:
    """Training rows in which frauds count for more, and stopping rows whose frauds are weighted alike.

    `weights` lets both classes weigh the same. `smote` adds frauds between neighbouring ones (Chawla et al.
    2002), only to what learns.

    Raises:
        CandidateFailed: SMOTE cannot be used on this data.
    """
    if option == "none":
        return train, stopping
    weights = row_weights(train).astype(np.float64)
    frauds, others = weights[train.labels == 1].sum(), weights[train.labels == 0].sum()
    if option == "weights":
        factor = others / frauds
        return _raised(train, factor), _raised(stopping, factor)
    learn = _with_smote(train, seed)
    factor = max(1.0, np.count_nonzero(learn.labels) / np.count_nonzero(train.labels))
    return learn, _raised(stopping, factor)


def _raised(rows: Rows, factor: float) -> Rows:
    weights = row_weights(rows)
    return rows.weighted(np.where(rows.labels == 1, weights * np.float32(factor), weights))


def _with_smote(train: Rows, seed: int) -> Rows:
    from imblearn.over_sampling import SMOTE  # noqa: PLC0415 - takes two seconds

    if train.weights is not None:
        raise CandidateFailed("SMOTE does not take weights of rows.")
    frauds = int(np.count_nonzero(train.labels))
    if frauds < 2:
        raise CandidateFailed("SMOTE needs two frauds.")
    if frauds >= _SMOTE_SHARE * (len(train) - frauds):
        return train
    if np.isnan(train.trees).any():
        raise CandidateFailed("SMOTE does not take missing values: set `missing` in the contract.")
    # Both views are the same columns but for scale: frauds are added among standardised values, so that every
    # column counts when neighbours are looked for.
    center, spread = train.trees.mean(axis=0), train.trees.std(axis=0)
    standard = (train.trees - center) / np.where(spread > 0, spread, 1)
    smote = SMOTE(sampling_strategy=_SMOTE_SHARE, random_state=seed, k_neighbors=min(_NEIGHBOURS, frauds - 1))
    added = np.asarray(smote.fit_resample(standard, train.labels)[0][len(train) :], dtype=np.float32)
    scaled = None
    if train.scaled is not None:
        scaled = added * train.scaled.std(axis=0) + train.scaled.mean(axis=0)
    return Rows.joined(train, Rows(added * spread + center, scaled, np.ones(len(added), dtype=np.int8)))


def _classes(rows: Rows) -> int:
    return len(np.unique(rows.labels))
