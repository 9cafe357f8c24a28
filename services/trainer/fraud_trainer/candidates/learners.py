"""The learners that a configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from config.candidates import Member
from config.parameters import Training
from fraud_trainer.candidates.boosted import BagLearner, XgboostLearner
from fraud_trainer.candidates.dense import LogisticRegressionLearner, NeuralNetworkLearner
from fraud_trainer.candidates.forests import IsolationForestLearner, RandomForestLearner
from fraud_trainer.candidates.model_types import Learner

Choices = dict[str, list[Any]]
# What the search and AutoML vary: by parameter the values in their order; those not named stay as configured.
SEARCHED: Final[dict[str, Choices]] = {
    "xgboost": {
        "max_depth": [3, 4, 5, 6, 8],
        "learning_rate": [0.03, 0.05, 0.1, 0.2],
        "subsample": [0.6, 0.8, 1.0],
        "colsample_bytree": [0.4, 0.6, 0.8, 1.0],
        "min_child_weight": [1, 2, 5, 10],
        "reg_lambda": [1, 5, 20],
        "max_delta_step": [0, 1],
    },
    "xgboost_bag": {"max_depth": [3, 4, 5], "learning_rate": [0.03, 0.05, 0.1], "reg_lambda": [1, 5, 20]},
    "random_forest": {
        "max_depth": [6, 8, 12, 16],
        "min_leaf": [1, 2, 5, 10],
        "max_features": [0.1, 0.2, 0.4, 0.8],
    },
    "logistic_regression": {"c": [0.001, 0.01, 0.1, 1.0, 10.0]},
    "neural_network": {
        "layers": [[16], [32], [32, 16], [64, 32]],
        "learning_rate": [0.0003, 0.001, 0.003],
        "penalty": [0.0, 0.0001, 0.01],
    },
    "isolation_forest": {"max_samples": [128, 256, 512, 1024]},
}


@dataclass(frozen=True, slots=True)
class Learners:
    """Makes learners from the configuration, with the parameters replaced that a search found."""

    training: Training

    def make(self, name: Member, changes: dict[str, Any] | None = None) -> Learner:
        training, seed, threads = self.training, self.training.seed, self.training.threads
        changes = changes or {}
        if name == "xgboost":
            parameters = {**training.xgboost, **changes}
            return XgboostLearner(parameters, training.rounds, training.early_stopping, threads, seed)
        if name == "xgboost_bag":
            bag = training.xgboost_bag
            changed = bag.model_copy(update={"xgboost": {**bag.xgboost, **changes}})
            return BagLearner(changed, threads, seed)
        if name == "neural_network":
            return NeuralNetworkLearner(training.neural_network.model_copy(update=changes), seed)
        if name == "random_forest":
            return RandomForestLearner(training.random_forest.model_copy(update=changes), threads, seed)
        if name == "isolation_forest":
            return IsolationForestLearner(training.isolation_forest.model_copy(update=changes), seed)
        return LogisticRegressionLearner(training.logistic_regression.model_copy(update=changes))
