"""XGBoost, alone and as a bag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import xgboost

from config.candidates import BagParameters
from fraud_adapters.models.boosted_bag import mean_of
from fraud_adapters.models.onnx_export import add_booster
from fraud_adapters.models.onnx_graph import Graph
from fraud_trainer.candidates.model_types import Fitted, Margins, Rows, View, single
from fraud_trainer.train.fitting import Examples, fit_trees, margins


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """A fitted booster."""

    booster: xgboost.Booster
    view: View = "trees"

    def margins(self, rows: Rows) -> Margins:
        return margins(self.booster, rows.trees)

    def add_to(self, graph: Graph, columns: slice) -> str:
        assert columns.start == 0, "boosted trees take the first columns"
        return add_booster(graph, self.booster)


@dataclass(frozen=True, slots=True)
class XgboostLearner:
    """Boosted trees, whose growth the stopping part ends."""

    parameters: Mapping[str, float | int | str]
    rounds: int
    patience: int
    threads: int
    seed: int
    name: str = "xgboost"
    view: View = "trees"
    supervised: bool = True

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        fitted = fit_trees(
            _examples(train),
            _examples(stopping),
            self.parameters,
            rounds=self.rounds,
            patience=self.patience,
            threads=self.threads,
            seed=self.seed,
        )
        details = {"rounds": fitted.rounds, "stopping_log_loss": fitted.stopping_loss}
        return single(self.name, BoostedTrees(fitted.booster), details, fitted.booster, logit=True)


@dataclass(frozen=True, slots=True)
class BagLearner:
    """Several boosters of a fixed size that differ in their seed; their margins are averaged.

    Nothing ends their growth, so they learn from the stopping part too.
    """

    parameters: BagParameters
    threads: int
    seed: int
    name: str = "xgboost_bag"
    view: View = "trees"
    supervised: bool = True

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        learn = _examples(Rows.joined(train, stopping))
        boosters = [
            fit_trees(
                learn,
                None,
                self.parameters.xgboost,
                rounds=self.parameters.rounds,
                patience=0,
                threads=self.threads,
                seed=self.seed + number,
            ).booster
            for number in range(self.parameters.members)
        ]
        bag = mean_of(boosters)
        details = {"members": self.parameters.members, "rounds": self.parameters.rounds}
        return single(self.name, BoostedTrees(bag), details, bag, logit=True)


def _examples(rows: Rows) -> Examples:
    return Examples(rows.trees, rows.labels, weights=rows.weights)
