"""How unusual rows are as a whole: their Mahalanobis distance from the reference (Mahalanobis 1936).

A row may be unusual although each of its values is usual, for example if two features that always rise
together do not. Values are standardised and clipped before, so that heavy tails do not decide alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

CLIP: Final = 8.0  # standard deviations
LEVEL: Final = 0.99  # of the reference's rows lie within `distance`
MIN_ROWS_PER_FEATURE: Final = 10  # fewer rows do not determine the covariance
_RIDGE: Final = 1e-3  # keeps the covariance invertible where features determine each other
_ROWS: Final = 65_536  # computed at once


class Multivariate(BaseModel):
    """The reference's centre and shape over k features.

    Attributes:
        mean, deviation: of each feature's known values; a feature without variation has deviation 0 and is
            left out of the distance.
        whitening: rows of the k × k matrix W with W Wᵀ = the inverse of the standardised covariance.
        distance: the squared distance that the share `level` of the reference's rows does not exceed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    level: float
    distance: float

    @model_validator(mode="after")
    def _fits(self) -> Multivariate:
        k = len(self.mean)
        if (
            len(self.deviation) != k
            or len(self.whitening) != k
            or any(len(row) != k for row in self.whitening)
        ):
            raise ValueError("mean, deviation and whitening must be of the same features")
        return self

    def beyond(self, features: NDArray[np.float32]) -> int:
        """How many rows, shape [n, k], lie beyond the reference's distance; NaN counts as the mean."""
        return int(np.count_nonzero(self.distances(features) > self.distance))

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Squared distances, shape [n, k] → [n]."""
        mean, deviation = np.array(self.mean), np.array(self.deviation)
        whitening = np.array(self.whitening)
        parts = [
            np.square(_standardised(features[start : start + _ROWS], mean, deviation) @ whitening).sum(axis=1)
            for start in range(0, len(features), _ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty(0)


def describe_shape(features: NDArray[np.float32], level: float = LEVEL) -> Multivariate | None:
    """Describe rows of shape [n, k]; None if there are too few of them for their covariance."""
    n, k = features.shape
    if n < MIN_ROWS_PER_FEATURE * k:
        return None
    known = ~np.isnan(features)
    counts = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, features, 0.0).astype(np.float64)
    mean = values.sum(axis=0) / counts
    deviation = np.sqrt(np.square(np.where(known, values - mean, 0.0)).sum(axis=0) / counts)
    standardised = _standardised(features, mean, deviation)
    covariance = standardised.T @ standardised / n + _RIDGE * np.eye(k)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    shape = Multivariate(
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        whitening=tuple(map(tuple, whitening.tolist())),
        level=level,
        distance=0.0,
    )
    distance = float(np.quantile(shape.distances(features), level))
    return shape.model_copy(update={"distance": distance})


def _standardised(
    features: NDArray[np.float32], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    standardised = (features.astype(np.float64) - mean) * scale
    return np.clip(np.nan_to_num(standardised, nan=0.0), -CLIP, CLIP)
