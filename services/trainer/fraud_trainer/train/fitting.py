"""Fits the boosted trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud_adapters.models.onnx_export import cut_to_best

# Fixed by the purpose of the model; all other parameters come from the configuration.
FIXED = {"objective": "binary:logistic", "booster": "gbtree", "eval_metric": "logloss", "verbosity": 0}


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from: features float32 [n, k] and labels [n], 1 is fraud.

    `amounts` [n] are those of the transactions, if there are any; `weights` [n] are 1 if None.
    `first_strikes` [n] marks the first fraud of each card, or is None if the contract has no card.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    amounts: NDArray[np.float64] | None = None
    weights: NDArray[np.float32] | None = None
    first_strikes: NDArray[np.bool_] | None = None

    def part(self, rows: slice) -> Examples:
        """Some of the rows."""
        amounts = None if self.amounts is None else self.amounts[rows]
        weights = None if self.weights is None else self.weights[rows]
        first_strikes = None if self.first_strikes is None else self.first_strikes[rows]
        return Examples(self.features[rows], self.labels[rows], amounts, weights, first_strikes)

    @staticmethod
    def joined(pieces: Sequence[Examples]) -> Examples:
        """The rows of all pieces, in this order."""

        def joined(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
            given = [array for array in arrays if array is not None]
            return np.concatenate(given) if len(given) == len(arrays) else None

        return Examples(
            np.concatenate([piece.features for piece in pieces]),
            np.concatenate([piece.labels for piece in pieces]),
            joined([piece.amounts for piece in pieces]),
            joined([piece.weights for piece in pieces]),
        )


@dataclass(frozen=True, slots=True)
class FittedTrees:
    booster: xgboost.Booster
    rounds: int
    stopping_loss: float | None  # None where nothing ended the growth early


def fit_trees(
    train: Examples,
    stopping: Examples | None,
    parameters: Mapping[str, float | int | str],
    *,
    rounds: int,
    patience: int,
    threads: int,
    seed: int,
) -> FittedTrees:
    """Add trees until the log loss on `stopping` has not fallen for `patience` rounds; keep the best ones.

    Without `stopping` there are exactly `rounds` trees.
    """
    settings = {**parameters, **FIXED, "nthread": threads, "seed": seed}
    # The histogram bins are computed from the training rows only.
    learn = xgboost.QuantileDMatrix(
        train.features,
        train.labels,
        weight=train.weights,
        nthread=threads,
        max_bin=int(parameters.get("max_bin", 256)),
    )
    if stopping is None:
        booster = xgboost.train(settings, learn, rounds, verbose_eval=False)
        return FittedTrees(booster, rounds, None)
    watch = xgboost.DMatrix(stopping.features, stopping.labels, weight=stopping.weights, nthread=threads)
    booster = xgboost.train(
        settings,
        learn,
        rounds,
        evals=[(watch, "stopping")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )
    best = cut_to_best(booster)
    return FittedTrees(best, best.num_boosted_rounds(), float(booster.best_score))


def margins(booster: xgboost.Booster, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw margins, float32 [n], as a service computes them."""
    result = booster.inplace_predict(features, predict_type="margin", validate_features=False)
    return np.asarray(result, dtype=np.float32)
