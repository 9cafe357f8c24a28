"""Decides what becomes of a version that passed its gate: champion or challenger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from config.job_results import ComparedFigure
from fraud_core.bootstrap import Interval, paired_difference
from fraud_core.decision import is_fraud
from fraud_core.gate import GatePolicy

Promotion = Literal["best", "canary", "manual"]
RESAMPLES: Final = 1000
AVERAGE_PRECISION: Final = "average_precision"

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model's calibrated scores [n] of the held-out rows, and its threshold."""

    scores: NDArray[np.float64]
    threshold: float

    @property
    def flagged(self) -> NDArray[np.float64]:
        """1 where the model predicts fraud, else 0."""
        return is_fraud(self.scores, self.threshold).astype(np.float64)


@dataclass(frozen=True, slots=True)
class PromotionDecision:
    """Whether the version becomes champion, why, and the figures that were compared."""

    promoted: bool
    sentence: str
    compared: list[ComparedFigure] = field(default_factory=list)


def compare(
    labels: NDArray[np.int8],
    candidate: ScoredModel,
    champion: ScoredModel,
    policy: GatePolicy,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[ComparedFigure]:
    """The figures of the gate policy and average precision, candidate less champion, on the same rows.

    Recall, FPR and F1 are at each model's own threshold. A figure is worse where the whole 95 % interval of
    the paired difference lies on the worse side of zero.

    Args:
        labels: 1 is fraud, [n]; both classes occur.
    """
    compared = []
    for name, sign, metric, at_threshold in _figures(policy):
        pair = [model.flagged if at_threshold else model.scores for model in (candidate, champion)]
        interval = paired_difference(metric, labels, *pair, resamples=resamples, seed=seed)
        worse = interval.high < 0 if sign > 0 else interval.low > 0
        compared.append(_figure(name, interval, worse=bool(worse)))
    return compared


def decide(
    promotion: Promotion,
    *,
    champion: str | None,
    asked: bool,
    comparison: Callable[[], list[ComparedFigure] | str],
) -> PromotionDecision:
    """Decide by `training.promotion`.

    Args:
        champion: the current champion's version, if there is one.
        asked: `--promote` was given.
        comparison: compares with the champion, or says in one sentence why that is impossible; called only
            if the comparison decides.
    """
    if asked:
        return PromotionDecision(True, "Champion, since --promote was given.")
    if promotion == "manual":
        return PromotionDecision(
            False, "Challenger, since training.promotion is manual: a person promotes it."
        )
    if champion is None:
        return PromotionDecision(True, "Champion, since there was none.")
    if promotion == "canary":
        return PromotionDecision(
            False,
            "Challenger, since training.promotion is canary: its release waits for the deployment DAG, which "
            "does not exist yet; --promote makes it champion.",
        )
    compared = comparison()
    if isinstance(compared, str):
        return PromotionDecision(False, f"Challenger, since it cannot be compared: {compared}")
    return _by_comparison(champion, compared)


def _by_comparison(champion: str, compared: list[ComparedFigure]) -> PromotionDecision:
    worse = [figure for figure in compared if figure["worse"]]
    shown = "; ".join(map(_shown, worse or compared))
    if worse:
        return PromotionDecision(False, f"Challenger, worse than champion {champion}: {shown}.", compared)
    return PromotionDecision(True, f"Champion, no worse than version {champion}: {shown}.", compared)


def _shown(figure: ComparedFigure) -> str:
    if figure["difference"] is None:
        return f"{figure['figure']} is undefined"
    return f"{figure['figure']} {figure['difference']:+.4f} ({figure['low']:+.4f} to {figure['high']:+.4f})"


def _figure(name: str, interval: Interval, *, worse: bool) -> ComparedFigure:
    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return {
        "figure": name,
        "difference": known(interval.value),
        "low": known(interval.low),
        "high": known(interval.high),
        "worse": worse,
    }


_Figure = tuple[str, int, Callable[..., float], bool]  # name, +1 if more is better, metric, of flags


def _figures(policy: GatePolicy) -> Iterator[_Figure]:
    at_threshold: Mapping[str, Callable[..., float]] = {"recall": _recall, "fpr": _fpr, "f1": _f1}
    for name, side, _ in policy.bounds():
        if name in at_threshold:
            yield name, 1 if side == "min" else -1, at_threshold[name], True
    if (point := policy.min_recall_at_precision) is not None:
        yield point.metric, 1, partial(_recall_at_precision, point.precision), False
    yield AVERAGE_PRECISION, 1, _average_precision, False


def _recall(labels: NDArray[np.int8], flagged: Weights, weights: Weights) -> float:
    frauds = weights * labels
    return float((frauds * flagged).sum() / frauds.sum())


def _fpr(labels: NDArray[np.int8], flagged: Weights, weights: Weights) -> float:
    others = weights * (1 - labels)
    return float((others * flagged).sum() / others.sum())


def _f1(labels: NDArray[np.int8], flagged: Weights, weights: Weights) -> float:
    frauds = weights * labels
    return float(2 * (frauds * flagged).sum() / ((weights * flagged).sum() + frauds.sum()))


def _operating_points(
    labels: NDArray[np.int8], scores: NDArray[np.float64], weights: Weights
) -> tuple[Weights, Weights]:
    """Recall and precision from the strictest threshold down; ties in score move together."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    tp = np.cumsum((weights * labels)[order])[ends]
    flagged = np.cumsum(weights[order])[ends]
    return tp / tp[-1], tp / np.maximum(flagged, 1)


def _average_precision(labels: NDArray[np.int8], scores: NDArray[np.float64], weights: Weights) -> float:
    recall, precision = _operating_points(labels, scores, weights)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _recall_at_precision(
    least: float, labels: NDArray[np.int8], scores: NDArray[np.float64], weights: Weights
) -> float:
    recall, precision = _operating_points(labels, scores, weights)
    reached = recall[precision >= least]
    return float(reached.max()) if reached.size else 0.0
