"""Which features a model uses, and whether one of them alone gives the label away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud_core.metrics import average_precision, curve, roc_auc

Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_CONTRIBUTION_ROWS: Final = 400  # TreeSHAP takes some ms a row
_PERMUTED_ROWS: Final = 4000
# A feature that ranks this well by itself is more often a leak than a discovery.
SUSPECT_AUC: Final = 0.99


@dataclass(frozen=True, slots=True)
class Importance:
    """The weight of each feature, shape [k], summing to 1 unless nothing matters, and how it was measured."""

    method: str
    shares: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contributions:
    """SHAP values (log-odds) of a sample of rows, and the rows' features; both float32 [n, k]."""

    values: NDArray[np.float32]
    features: NDArray[np.float32]


def load_trees(content: bytes, width: int) -> xgboost.Booster | None:
    """The booster of a UBJ file, or None if it takes other features than the contract's."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    return booster if booster.num_features() == width else None


def gain(booster: xgboost.Booster) -> Importance:
    """Each feature's share of the loss that all splits took away."""
    gains = booster.get_score(importance_type="total_gain")
    # Without names of its own the booster calls its features f0, f1, …
    shares = np.array([gains.get(f"f{k}", 0.0) for k in range(booster.num_features())], dtype=np.float64)
    return Importance("share of the loss taken away by the splits (gain)", shares / max(shares.sum(), 1e-300))


def permutation(
    score: Score, features: NDArray[np.float32], labels: NDArray[np.int8], seed: int
) -> Importance:
    """How much average precision is lost if a feature's values are shuffled (Breiman 2001), as shares."""
    source = np.random.default_rng(seed)
    rows = sample(labels, _PERMUTED_ROWS, seed)
    chosen, truth = features[rows], labels[rows]
    best = average_precision(curve(truth, score(chosen)))
    lost = np.zeros(features.shape[1])
    for k in range(features.shape[1]):
        shuffled = chosen.copy()
        shuffled[:, k] = source.permutation(shuffled[:, k])
        lost[k] = max(0.0, best - average_precision(curve(truth, score(shuffled))))
    return Importance(
        "share of the average precision lost if the feature is shuffled", lost / max(lost.sum(), 1e-300)
    )


def contributions(
    booster: xgboost.Booster, features: NDArray[np.float32], labels: NDArray[np.int8], seed: int
) -> Contributions:
    """TreeSHAP values (Lundberg et al. 2020), by XGBoost itself, of a sample with many frauds."""
    chosen = features[sample(labels, _CONTRIBUTION_ROWS, seed)]
    values = booster.predict(xgboost.DMatrix(chosen), pred_contribs=True)
    return Contributions(np.asarray(values[:, :-1], dtype=np.float32), chosen)


def sample(labels: NDArray[np.int8], size: int, seed: int) -> NDArray[np.int64]:
    """At most `size` rows, up to half of them frauds, in their order."""
    source = np.random.default_rng(seed)
    frauds, others = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    frauds = source.permutation(frauds)[: size // 2]
    return np.sort(np.concatenate([frauds, source.permutation(others)[: size - len(frauds)]]))


def single_feature_auc(features: NDArray[np.float32], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """How well each feature by itself ranks frauds, in either direction: ROC AUC from 0.5 to 1, [n, k] → [k].

    A missing value ranks below all others.
    """
    lowest = np.finfo(np.float64).min
    areas = (
        roc_auc(curve(labels, np.nan_to_num(column.astype(np.float64), nan=lowest))) for column in features.T
    )
    return np.array([max(area, 1 - area) for area in areas])
