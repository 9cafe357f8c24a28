"""The part of `training` that says which kinds of model are fitted, and how."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Candidate = Literal[
    "xgboost",
    "xgboost_bag",
    "neural_network",
    "random_forest",
    "isolation_forest",
    "logistic_regression",
    "voting",
]
Member = Literal[
    "xgboost", "xgboost_bag", "neural_network", "random_forest", "isolation_forest", "logistic_regression"
]
Forest = Literal["random_forest", "isolation_forest"]
Imbalance = Literal["none", "weights", "smote"]


VOTERS: Final[list[Member]] = [
    "xgboost",
    "neural_network",
    "random_forest",
    "isolation_forest",
    "logistic_regression",
]


BAGGED: Final[dict[str, float | int | str]] = {
    "learning_rate": 0.05,
    "max_depth": 4,
    "subsample": 0.8,
    "colsample_bytree": 0.4,
    "reg_lambda": 5,
    "max_delta_step": 1,
    "base_score": 0.5,
    "tree_method": "hist",
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BagParameters(_Section):
    members: int = Field(default=5, ge=2, le=50)
    rounds: int = Field(default=300, ge=1)
    xgboost: dict[str, float | int | str] = Field(default=BAGGED)


class NeuralNetworkParameters(_Section):
    layers: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(default=(32, 16), min_length=1)
    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=0.001, gt=0)
    penalty: float = Field(default=0.0001, ge=0)


class RandomForestParameters(_Section):
    trees: int = Field(default=100, ge=1)
    max_depth: int | None = Field(default=12, ge=1)
    min_leaf: int = Field(default=2, ge=1)
    max_features: float = Field(default=0.2, gt=0, le=1)  # share of the columns tried at each split
    max_samples: int = Field(default=50_000, ge=100)  # rows in each tree, at most: this bounds the time


class IsolationForestParameters(_Section):
    trees: int = Field(default=60, ge=1)
    max_samples: int = Field(default=256, ge=2)


class LogisticRegressionParameters(_Section):
    c: float = Field(default=1.0, gt=0)  # the inverse of the penalty
    iterations: int = Field(default=200, ge=1)


class Selection(_Section):
    """Which columns are dropped before training; None drops none."""

    max_correlation: float | None = Field(
        default=None, gt=0, lt=1
    )  # absolute, of two columns: the later goes
    max_chi_square_p: float | None = Field(default=None, gt=0, lt=1)  # of independence from the label
    min_mutual_information: float | None = Field(default=None, gt=0)  # with the label, in nats


class Search(_Section):
    """The search for better parameters: it ends after `trials`, or after `seconds`, whichever comes first."""

    candidates: list[Member] = Field(default=["xgboost"])
    method: Literal["tpe", "random", "grid"] = "tpe"
    trials: int = Field(default=0, ge=0)  # for each candidate; 0: no search
    seconds: float = Field(default=600, gt=0)  # for each candidate


class Automl(_Section):
    """A further candidate that a search over all kinds of model finds, within a budget."""

    enabled: bool = False  # TRAINER_AUTOML
    trials: int = Field(default=50, ge=1)
    seconds: float = Field(default=300, gt=0)
