"""Models that multiply scaled features: logistic regression and a small neural network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.candidates import LogisticRegressionParameters, NeuralNetworkParameters
from fraud_adapters.models.onnx_graph import Graph
from fraud_trainer.candidates.model_types import Fitted, Margins, Rows, View, row_weights, single

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class DenseLayers:
    """Layers of weights [k, m] and biases [m]; all but the last are followed by max(0, x)."""

    layers: tuple[Layer, ...]
    view: View = "scaled"

    def margins(self, rows: Rows) -> Margins:
        values = rows.view("scaled")
        for number, (weights, bias) in enumerate(self.layers, start=1):
            values = values @ weights + bias
            if number < len(self.layers):
                values = np.maximum(values, 0)
        return np.asarray(values[:, 0], dtype=np.float32)

    def add_to(self, graph: Graph, columns: slice) -> str:
        name = graph.columns(columns.start, columns.stop)
        for number, (weights, bias) in enumerate(self.layers, start=1):
            name = graph.dense(name, weights, bias, rectified=number < len(self.layers))
        return name


def _layer(weights: NDArray[np.float64], bias: NDArray[np.float64]) -> Layer:
    return weights.astype(np.float32), bias.astype(np.float32)


@dataclass(frozen=True, slots=True)
class LogisticRegressionLearner:
    """The baseline: what a linear model reaches."""

    parameters: LogisticRegressionParameters
    name: str = "logistic_regression"
    view: View = "scaled"
    supervised: bool = True

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - takes a second

        model = LogisticRegression(C=self.parameters.c, max_iter=self.parameters.iterations)
        with _quietly():
            model.fit(train.view("scaled").astype(np.float64), train.labels, row_weights(train))
        layers = (_layer(model.coef_.T, model.intercept_),)
        return single(self.name, DenseLayers(layers), {"iterations": int(model.n_iter_[0])}, logit=True)


@dataclass(frozen=True, slots=True)
class NeuralNetworkLearner:
    """A multilayer perceptron with rectified layers, trained by Adam for a fixed number of epochs."""

    parameters: NeuralNetworkParameters
    seed: int
    name: str = "neural_network"
    view: View = "scaled"
    supervised: bool = True

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - takes a second

        model = MLPClassifier(
            hidden_layer_sizes=self.parameters.layers,
            alpha=self.parameters.penalty,
            learning_rate_init=self.parameters.learning_rate,
            batch_size=min(self.parameters.batch, len(train)),
            max_iter=self.parameters.epochs,
            n_iter_no_change=self.parameters.epochs,
            random_state=self.seed,
        )
        with _quietly():
            model.fit(train.view("scaled"), train.labels, train.weights)
        layers = tuple(_layer(*layer) for layer in zip(model.coefs_, model.intercepts_, strict=True))
        return single(self.name, DenseLayers(layers), {"training_log_loss": float(model.loss_)}, logit=True)


class _quietly(warnings.catch_warnings):  # noqa: N801 - used as a statement
    """Ignores scikit-learn's remark that it did not converge: the number of iterations is a parameter."""

    def __enter__(self) -> None:
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

        super().__enter__()
        warnings.simplefilter("ignore", ConvergenceWarning)
