"""Recall, precision, F1, FPR and FNR with 95 % intervals, in count and in money, and by parts of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core import ranking
from fraud_core.metrics import Confusion, confusion, wilson_interval
from fraud_core.profile import CALIBRATION_BINS, SCORE_EDGES, CalibrationBin, calibration_bins, shares_between

RATES: Final = ("recall", "precision", "f1", "fpr", "fnr")
DECISIONS: Final = ("approve", "review", "block")
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio with its interval, and the number of rows it rests on; `value` is None if it is undefined."""

    value: float | None
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Deciding predictions with mature labels, n of them.

    Attributes:
        labels: 1 is fraud, shape [n]; scores: calibrated, shape [n].
        flagged: score ≥ the model's threshold, as it was stored, shape [n].
        decisions: positions in `DECISIONS`, shape [n].
        amounts: in the contract's unit, shape [n]; None if the contract has no amount.
    """

    labels: NDArray[np.int8]
    scores: Floats
    flagged: Bools
    decisions: NDArray[np.int8]
    amounts: Floats | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> Confusion:
        return confusion(self.labels, self.flagged)

    def take(self, rows: Bools) -> Judged:
        return Judged(
            self.labels[rows],
            self.scores[rows],
            self.flagged[rows],
            self.decisions[rows],
            None if self.amounts is None else self.amounts[rows],
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the rows: an amount band, or a decision."""

    name: str
    rows: int
    frauds: int
    figures: Mapping[str, Figure]


def in_count(counts: Confusion) -> dict[str, Figure]:
    """The figures by number of transactions."""
    return {
        "recall": _ratio(counts.tp, counts.tp + counts.fn),
        "precision": _ratio(counts.tp, counts.tp + counts.fp),
        "f1": _harmonic(_ratio(counts.tp, counts.tp + counts.fp + counts.fn)),
        "fpr": _ratio(counts.fp, counts.fp + counts.tn),
        "fnr": _ratio(counts.fn, counts.tp + counts.fn),
    }


def in_money(rows: Judged) -> dict[str, Figure]:
    """The figures by amount: each transaction counts with its amount; empty without amounts."""
    if rows.amounts is None:
        return {}
    fraud, flagged, amounts = rows.labels.astype(bool), rows.flagged, np.nan_to_num(rows.amounts)

    def share(of: Bools, among: Bools) -> Figure:
        return _weighted(of[among], amounts[among])

    return {
        "recall": share(flagged, fraud),
        "precision": share(fraud, flagged),
        "f1": _harmonic(share(flagged & fraud, flagged | fraud)),
        "fpr": share(flagged, ~fraud),
        "fnr": share(~flagged, fraud),
    }


def by_amount(rows: Judged, bands: Sequence[float]) -> list[Part]:
    """The figures of each band of amounts, the lowest first; empty without amounts."""
    if rows.amounts is None:
        return []
    position = np.searchsorted(bands, rows.amounts, side="right")
    names = [
        f"under {bands[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(bands)),
    ]
    names.append(f"{bands[-1]:g} and more")
    return [_part(name, rows.take(position == number)) for number, name in enumerate(names)]


def by_decision(rows: Judged) -> list[Part]:
    """The share of frauds among what was approved, reviewed and blocked."""
    parts = []
    for number, name in enumerate(DECISIONS):
        chosen = rows.take(rows.decisions == number)
        frauds = int(chosen.labels.sum())
        parts.append(Part(name, len(chosen), frauds, {"fraud_rate": _ratio(frauds, len(chosen))}))
    return parts


@dataclass(frozen=True, slots=True)
class Confidence:
    """How scores are distributed, and whether they mean what they say.

    Attributes:
        shares: of the rows between `SCORE_EDGES`; those of frauds and of the others likewise.
        average_precision, roc_auc: None unless both classes occur.
        mean_score, fraud_rate: they are equal if the scores are calibrated.
    """

    shares: tuple[float, ...]
    fraud_shares: tuple[float, ...]
    other_shares: tuple[float, ...]
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float
    brier: float
    mean_score: float
    fraud_rate: float
    average_precision: float | None
    roc_auc: float | None


def confidence(rows: Judged) -> Confidence | None:
    """The distribution and calibration of the scores; None without rows."""
    if not len(rows):
        return None
    fraud = rows.labels.astype(bool)
    both = bool(fraud.any() and not fraud.all())
    ranked = ranking.ranked(rows.labels, rows.scores, None, np.ones((1, len(rows)))) if both else None
    bins = calibration_bins(rows.labels, rows.scores, CALIBRATION_BINS)

    def shares(scores: Floats) -> tuple[float, ...]:
        return tuple(shares_between(scores, SCORE_EDGES).tolist())

    return Confidence(
        shares=shares(rows.scores),
        fraud_shares=shares(rows.scores[fraud]),
        other_shares=shares(rows.scores[~fraud]),
        calibration=tuple(bins),
        calibration_error=sum(one.rows * abs(one.mean_score - one.fraud_rate) for one in bins) / len(rows),
        brier=float(np.mean(np.square(rows.scores - rows.labels))),
        mean_score=float(rows.scores.mean()),
        fraud_rate=float(fraud.mean()),
        average_precision=None if ranked is None else float(ranking.average_precision(ranked)[0]),
        roc_auc=None if ranked is None else float(ranking.roc_auc(ranked)[0]),
    )


def _part(name: str, rows: Judged) -> Part:
    return Part(name, len(rows), int(rows.labels.sum()), in_count(rows.counts))


def _ratio(part: int, whole: int) -> Figure:
    low, high = wilson_interval(part, whole)
    return Figure(part / whole if whole else None, low, high, whole)


def _weighted(of: Bools, weights: Floats) -> Figure:
    """A share of weights, with Wilson's interval of as many rows as the weights are worth (Kish 1965)."""
    total = float(weights.sum())
    if total <= 0:
        return Figure(None, 0.0, 1.0, len(weights))
    share = float(weights[of].sum()) / total
    effective = total**2 / float(np.square(weights).sum())
    low, high = wilson_interval(share * effective, effective)
    return Figure(share, low, high, len(weights))


def _harmonic(jaccard: Figure) -> Figure:
    """F1 of the share TP / (TP + FP + FN), of which it is a rising function: 2 J / (1 + J)."""

    def f1(share: float) -> float:
        return 2 * share / (1 + share)

    value = None if jaccard.value is None else f1(jaccard.value)
    return Figure(value, f1(jaccard.low), f1(jaccard.high), jaccard.rows)
