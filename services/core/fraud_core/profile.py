"""The reference profile of a model version: what its inputs and scores looked like when it was made.

What watches a model compares with it and needs no training data. It is part of the version's files, and the
version's digest covers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_core.multivariate import Multivariate, describe_shape
from fraud_core.outliers import count_beyond, fences

FILE_NAME = "profile.json"

# Deciles, and finer steps in the tails, where fraud lies.
LEVELS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
# A feature with at most this many values is described by the share of each of them.
MOST_CATEGORIES = 10
# Scores gather near 0, so the bins of their histogram are finer there.
SCORE_EDGES = (
    0.0001,
    0.001,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.99,
)
CALIBRATION_BINS = 10


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Histogram(_Part):
    """Shares between edges: bin i holds `edges[i - 1] < value <= edges[i]`, the outer bins are open."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError("k edges need k + 1 shares")
        if any(one >= other for one, other in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise")
        return self


class FeatureProfile(_Part):
    """One feature over the training rows.

    Attributes:
        missing: the share of rows without a value; all other figures are of the rows that have one.
        histogram: shares between the quantiles of `LEVELS`; equal quantiles make one edge.
        levels: of each edge, the highest level whose quantile it is, so that deciles can be picked out.
        categories: the share of each value of a feature with few values, for example a category's indicator.
        low, high, mean, deviation: None if no row has a value.
        outliers: the share of values beyond Tukey's fences (`fraud_core.outliers`); None if there are no
            fences, or if the profile was made before they were.
    """

    name: str
    missing: float = Field(ge=0, le=1)
    histogram: Histogram
    levels: tuple[float, ...]
    categories: dict[str, float] | None
    low: float | None
    high: float | None
    mean: float | None
    deviation: float | None
    outliers: float | None = None


class CalibrationBin(_Part):
    """Rows of similar score: how many, their mean score, and their share of frauds."""

    rows: int
    mean_score: float
    fraud_rate: float


class Profile(_Part):
    """The content of `profile.json`.

    Attributes:
        rows, fraud_rate: of the training part, from which the features are described.
        scored_rows, scored_fraud_rate: of the held-out part, from which the scores are described.
        alert_rate: the share of the held-out part at or above the threshold.
        multivariate: how unusual a row is as a whole; None with too few rows, or in an older profile.
        importance: the share of each feature in the model's decisions, by its name; None in older profiles.
    """

    format: Literal[1] = 1
    contract: str
    rows: int
    fraud_rate: float
    features: tuple[FeatureProfile, ...]
    scored_rows: int
    scored_fraud_rate: float
    alert_rate: float
    scores: Histogram
    scores_of_frauds: Histogram
    calibration: tuple[CalibrationBin, ...]
    multivariate: Multivariate | None = None
    importance: dict[str, float] | None = None

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, content: bytes) -> Profile:
        """Read a profile.

        Raises:
            ValueError: it is not JSON, or not a valid profile.
        """
        return cls.model_validate_json(content, strict=False)


def make_profile(
    contract: str,
    names: Sequence[str],
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
    *,
    held_out_labels: NDArray[np.int8],
    held_out_scores: NDArray[np.float64],
    threshold: float,
    importance: NDArray[np.float64] | None = None,
) -> Profile:
    """Describe the rows that a model was trained on, and its scores on rows it has not seen.

    Args:
        contract: name and version, as `Contract.schema_id`.
        names: of the k features, in the order of the columns.
        features: of the training rows, shape [n, k], NaN where missing.
        labels: of the training rows, shape [n], 1 is fraud.
        held_out_labels, held_out_scores: shape [m]; scores are calibrated.
        threshold: of the model, from which a score is an alert.
        importance: the share of each feature in the model's decisions, shape [k], if it is known.
    """
    frauds = held_out_labels.astype(bool)
    return Profile(
        contract=contract,
        rows=len(labels),
        fraud_rate=float(labels.mean()),
        features=tuple(profile_feature(name, features[:, k]) for k, name in enumerate(names)),
        scored_rows=len(held_out_labels),
        scored_fraud_rate=float(frauds.mean()),
        alert_rate=float(np.mean(held_out_scores >= threshold)),
        scores=_histogram(held_out_scores, SCORE_EDGES),
        scores_of_frauds=_histogram(held_out_scores[frauds], SCORE_EDGES),
        calibration=tuple(calibration_bins(held_out_labels, held_out_scores, CALIBRATION_BINS)),
        multivariate=describe_shape(features),
        importance=None if importance is None else dict(zip(names, importance.tolist(), strict=True)),
    )


def profile_feature(name: str, column: NDArray[np.float32]) -> FeatureProfile:
    """Describe one feature, shape [n], NaN where missing."""
    known = column[~np.isnan(column)].astype(np.float64)
    values, counts = np.unique(known, return_counts=True)
    few = 0 < len(values) <= MOST_CATEGORIES
    edges, levels = _edges(known)
    bounds = fences(edges, levels)
    return FeatureProfile(
        name=name,
        missing=float(1 - len(known) / len(column)) if len(column) else 0.0,
        histogram=_histogram(known, edges),
        levels=levels,
        categories={
            f"{value:g}": float(count / len(known)) for value, count in zip(values, counts, strict=True)
        }
        if few
        else None,
        low=float(values[0]) if len(values) else None,
        high=float(values[-1]) if len(values) else None,
        mean=float(known.mean()) if len(values) else None,
        deviation=float(known.std()) if len(values) else None,
        outliers=count_beyond(known, bounds) / len(known) if bounds else None,
    )


def shares_between(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.float64]:
    """The shares of values in a histogram's bins, shape [n] and k edges → [k + 1]; zeros without values.

    A monitor bins its window with this function and the edges of the profile. Values must not be NaN.
    """
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return np.asarray(counts / max(len(values), 1))


def calibration_bins(
    labels: NDArray[np.int8], scores: NDArray[np.float64], bins: int
) -> list[CalibrationBin]:
    """Rows in bins of equal width of the score (bins without rows are left out), the lowest first."""
    position = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows, score, fraud = (
        np.bincount(position, weights=weights, minlength=bins)
        for weights in (None, scores, labels.astype(np.float64))
    )
    return [
        CalibrationBin(
            rows=int(rows[k]), mean_score=float(score[k] / rows[k]), fraud_rate=float(fraud[k] / rows[k])
        )
        for k in np.flatnonzero(rows)
    ]


def _edges(known: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The distinct quantiles, rising, and the highest level of each."""
    if not len(known):
        return (), ()
    # A quantile is one of the values, so that a value that occurs often has an edge of its own.
    quantiles = np.quantile(known, LEVELS, method="inverted_cdf").tolist()
    highest = dict(zip(quantiles, LEVELS, strict=True))
    return tuple(highest), tuple(highest.values())


def _histogram(values: NDArray[np.float64], edges: Sequence[float]) -> Histogram:
    return Histogram(edges=tuple(edges), shares=tuple(shares_between(values, edges).tolist()))
