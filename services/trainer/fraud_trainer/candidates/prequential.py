"""Compares options without the later parts: learn from earlier rows, score the next block of time, go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.candidates import Imbalance
from fraud_trainer.candidates.model_types import CandidateFailed, Learner, Rows, row_weights

_FIRST_SHARE: Final = 0.4  # of the rows, which only learn
_STOPPING_SHARE: Final = 0.1  # of the rows before a block
_SMOTE_SHARE: Final = 0.25  # frauds for each legitimate row after SMOTE
_NEIGHBOURS: Final = 5
_RESAMPLINGS: Final = 100


def average_precision(
    labels: NDArray[np.int8], scores: NDArray[np.float32], weights: NDArray[np.float32]
) -> float | None:
    """The sum over operating points of the step in recall times the precision, of weighted rows.

    All shapes are [n]; ties move together. None where a class is absent.
    """
    return _Ranking.of(labels, scores).average_precision(weights)


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Rows in descending order of score, so that other weights need no other sorting."""

    order: NDArray[np.intp]
    ends: NDArray[np.intp]  # the last row of each run of equal scores
    labels: NDArray[np.int8]  # in the order of the rows

    @classmethod
    def of(cls, labels: NDArray[np.int8], scores: NDArray[np.float32]) -> _Ranking:
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.nonzero(np.diff(scores[order]))[0], len(order) - 1)
        return cls(order, ends, labels[order])

    def average_precision(self, weights: NDArray[np.float32]) -> float | None:
        ranked = weights[self.order].astype(np.float64)
        flagged = np.cumsum(ranked)
        found = np.cumsum(np.where(self.labels == 1, ranked, 0))
        if not 0 < found[-1] < flagged[-1]:
            return None
        found, flagged = found[self.ends], flagged[self.ends]
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        return float(np.sum(np.diff(found, prepend=0) * precision) / found[-1])


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
    rankings = [_Ranking.of(rows.labels, scores) for scores in (first, second)]
    weights = row_weights(rows)

    def gain(counts: NDArray[np.float32]) -> float:
        before, after = (ranking.average_precision(counts) for ranking in rankings)
        return 0.0 if before is None or after is None else after - before

    if gain(weights) <= margin:
        return False
    source = np.random.default_rng(seed)
    better = sum(
        gain(weights * source.poisson(1.0, len(rows)).astype(np.float32)) > 0 for _ in range(_RESAMPLINGS)
    )
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
