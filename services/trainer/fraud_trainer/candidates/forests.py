"""Random forest, and isolation forest, which knows no labels."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from config.candidates import IsolationForestParameters, RandomForestParameters
from fraud_adapters.models.forest_export import add_isolation_forest, add_random_forest
from fraud_adapters.models.onnx_graph import Graph
from fraud_trainer.candidates.model_types import Fitted, Margins, Rows, View, single


@dataclass(frozen=True, slots=True)
class RandomForest:
    """Its margin is the probability of fraud; the calibration follows as for every candidate."""

    forest: Any
    view: View = "trees"

    def margins(self, rows: Rows) -> Margins:
        return np.asarray(self.forest.predict_proba(rows.trees)[:, 1], dtype=np.float32)

    def add_to(self, graph: Graph, columns: slice) -> str:
        return add_random_forest(graph, self.forest, columns.start)

    def first(self, trees: int) -> RandomForest:
        """The forest of its first trees."""
        return RandomForest(_first(self.forest, trees))


@dataclass(frozen=True, slots=True)
class IsolationForest:
    """Its margin is the base-2 logarithm of its anomaly score."""

    forest: Any
    view: View = "scaled"

    def margins(self, rows: Rows) -> Margins:
        return np.asarray(np.log2(-self.forest.score_samples(rows.view("scaled"))), dtype=np.float32)

    def add_to(self, graph: Graph, columns: slice) -> str:
        return add_isolation_forest(graph, self.forest, columns.start)

    def first(self, trees: int) -> IsolationForest:
        """The forest of its first trees."""
        forest = _first(self.forest, trees)
        forest.estimators_features_ = self.forest.estimators_features_[:trees]
        return IsolationForest(forest)


def _first(forest: Any, trees: int) -> Any:
    shorter = copy(forest)
    shorter.estimators_ = forest.estimators_[:trees]
    shorter.n_estimators = len(shorter.estimators_)
    return shorter


@dataclass(frozen=True, slots=True)
class RandomForestLearner:
    parameters: RandomForestParameters
    threads: int
    seed: int
    name: str = "random_forest"
    view: View = "trees"
    supervised: bool = True

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - takes a second

        forest = RandomForestClassifier(
            n_estimators=self.parameters.trees,
            max_depth=self.parameters.max_depth,
            min_samples_leaf=self.parameters.min_leaf,
            max_features=self.parameters.max_features,
            max_samples=min(self.parameters.max_samples, len(train)),
            n_jobs=self.threads,
            random_state=self.seed,
        ).fit(train.trees, train.labels, train.weights)
        # Scoring is summed over threads in the order in which they finish.
        forest.n_jobs = 1
        leaves = sum(int(tree.tree_.n_leaves) for tree in forest.estimators_)
        return single(self.name, RandomForest(forest), {"leaves": leaves}, logit=False)


@dataclass(frozen=True, slots=True)
class IsolationForestLearner:
    parameters: IsolationForestParameters
    seed: int
    name: str = "isolation_forest"
    view: View = "scaled"
    supervised: bool = False

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        from sklearn import ensemble  # noqa: PLC0415 - takes a second

        forest = ensemble.IsolationForest(
            n_estimators=self.parameters.trees,
            max_samples=min(self.parameters.max_samples, len(train)),
            random_state=self.seed,
        ).fit(train.view("scaled"), sample_weight=train.weights)
        return single(
            self.name, IsolationForest(forest), {"examples_a_tree": int(forest.max_samples_)}, logit=False
        )
