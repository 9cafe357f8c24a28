"""What every candidate is made of: rows in the views that models need, members, and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.models.onnx_graph import Graph
from fraud_core.manifest import Calibration
from fraud_trainer.train.calibration import LOGIT_PRIOR, fit_sigmoid

View = Literal["trees", "scaled"]
VIEWS: Final[tuple[View, ...]] = ("trees", "scaled")
Margins = NDArray[np.float32]


class CandidateFailed(LastingFailure):
    """A candidate cannot be trained on this data; one sentence."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Prepared examples, ordered by time.

    Attributes:
        trees: float32 [n, k], for models that split: encoded, unscaled, perhaps with missing values.
        scaled: float32 [n, m], for models that multiply: scaled, without missing values; or None if no
            candidate needs it.
        labels: [n], 1 is fraud.
        weights: [n], or None if every row counts once.
    """

    trees: NDArray[np.float32]
    scaled: NDArray[np.float32] | None
    labels: NDArray[np.int8]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def view(self, name: View) -> NDArray[np.float32]:
        values = self.trees if name == "trees" else self.scaled
        assert values is not None, "the rows were prepared without a view that a candidate needs"
        return values

    def take(self, part: slice) -> Rows:
        return Rows(
            self.trees[part],
            None if self.scaled is None else self.scaled[part],
            self.labels[part],
            None if self.weights is None else self.weights[part],
        )

    def weighted(self, weights: NDArray[np.float32]) -> Rows:
        return replace(self, weights=weights)

    @staticmethod
    def joined(first: Rows, second: Rows) -> Rows:
        """The rows of both, in this order."""
        scaled = None
        if first.scaled is not None and second.scaled is not None:
            scaled = np.concatenate([first.scaled, second.scaled])
        weights = None
        if first.weights is not None or second.weights is not None:
            weights = np.concatenate([row_weights(first), row_weights(second)])
        return Rows(
            np.concatenate([first.trees, second.trees]),
            scaled,
            np.concatenate([first.labels, second.labels]),
            weights,
        )


def row_weights(rows: Rows) -> NDArray[np.float32]:
    """The weight of each row, 1 where none is given, [n]."""
    return np.ones(len(rows), dtype=np.float32) if rows.weights is None else rows.weights


class ModelPart(Protocol):
    """One fitted model."""

    @property
    def view(self) -> View: ...

    def margins(self, rows: Rows) -> Margins:
        """What the model gives in training, float32 [n]; higher means fraud."""

    def add_to(self, graph: Graph, columns: slice) -> str:
        """Add the model to a graph whose `columns` are its view; returns the name of the margin, [n, 1]."""


@dataclass(frozen=True, slots=True)
class WeightedPart:
    """A member of a vote; its margin enters as weight × (slope × margin + intercept)."""

    name: str
    part: ModelPart
    weight: float
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The margins of some rows, float32 [n], and the sigmoid that was fitted on them."""

    margins: Margins
    sigmoid: Calibration


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted candidate: one model, or several that vote.

    Attributes:
        parts: with more than one, or with another weight than 1, the margin is their weighted sum and `bias`.
        booster: the same model for XGBoost, if it is one of boosted trees alone.
        logit: whether the margin is the logit of a probability, so that it needs little calibration.
        details: figures of the fit, for the record.
    """

    name: str
    parts: tuple[WeightedPart, ...]
    bias: float = 0.0
    booster: xgboost.Booster | None = None
    logit: bool = False
    details: Mapping[str, float | int | str | None] = field(default_factory=dict)

    @property
    def votes(self) -> bool:
        return len(self.parts) > 1

    @property
    def views(self) -> tuple[View, ...]:
        used = {part.part.view for part in self.parts}
        return tuple(view for view in VIEWS if view in used)

    def margins(self, rows: Rows) -> Margins:
        """float32 [n]; higher means fraud."""
        if not self.votes:
            return self.parts[0].part.margins(rows)
        total = np.full(len(rows), self.bias, dtype=np.float64)
        for part in self.parts:
            total += part.weight * (part.slope * part.part.margins(rows).astype(np.float64) + part.intercept)
        return total.astype(np.float32)

    def calibrated(self, rows: Rows) -> Calibrated:
        """Its margins of these rows, and the sigmoid fitted on them.

        Raises:
            CalibrationError: it does not rank frauds above other transactions.
        """
        margins, prior = self.margins(rows), LOGIT_PRIOR if self.logit else 0.0
        return Calibrated(margins, fit_sigmoid(margins, rows.labels, rows.weights, prior=prior))


def single(
    name: str,
    part: ModelPart,
    details: Mapping[str, float | int | str | None],
    booster: xgboost.Booster | None = None,
    *,
    logit: bool,
) -> Fitted:
    """A candidate of one model."""
    return Fitted(name, (WeightedPart(name, part, 1.0, 1.0, 0.0),), 0.0, booster, logit, details)


class Learner(Protocol):
    """A kind of model with its parameters."""

    @property
    def name(self) -> str: ...

    @property
    def view(self) -> View: ...

    @property
    def supervised(self) -> bool:
        """Whether it learns from labels, so that their imbalance matters."""

    def fit(self, train: Rows, stopping: Rows) -> Fitted:
        """Learn from `train`; `stopping` is later, and may end the fit.

        Raises:
            CandidateFailed: the data does not suffice.
        """


Progress = Callable[..., object]  # the logger's method `info`
