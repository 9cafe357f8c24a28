"""A window of scored transactions, counted into the bins of the reference profile.

Rows are added piece by piece, so that memory does not grow with the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fraud_core.profile import FeatureProfile, Profile


@dataclass(slots=True)
class FeatureCounts:
    """Rows of one feature.

    Attributes:
        bins: between the edges of the profile's histogram, shape [edges + 1].
        categories: by the profile's categories in their order, then all other values; None if it has none.
        missing: rows without a value.
    """

    bins: NDArray[np.int64]
    categories: NDArray[np.int64] | None
    missing: int = 0


@dataclass(slots=True)
class ScoreCounts:
    """The champion's scores, by the bins of the profile's histogram; all have shape [edges + 1].

    Attributes:
        rows, flagged: how many, and how many of them are predicted frauds.
        sums, flagged_sums: of the scores.
    """

    rows: NDArray[np.int64]
    flagged: NDArray[np.int64]
    sums: NDArray[np.float64]
    flagged_sums: NDArray[np.float64]


@dataclass(slots=True)
class WindowCounts:
    """What is known of a window; see `add`."""

    profile: Profile
    rows: int = 0
    features: list[FeatureCounts] = field(default_factory=list)
    scores: ScoreCounts = field(init=False)

    def __post_init__(self) -> None:
        self.features = [_no_rows(one) for one in self.profile.features]
        size = len(self.profile.scores.shares)
        self.scores = ScoreCounts(
            np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size), np.zeros(size)
        )

    def add(self, features: NDArray[np.float32]) -> None:
        """Count the features of further rows, shape [n, k], NaN where missing."""
        self.rows += len(features)
        for counts, profile, column in zip(self.features, self.profile.features, features.T, strict=True):
            _count(counts, profile, column)

    def add_scores(self, scores: NDArray[np.float64], flagged: NDArray[np.bool_]) -> None:
        """Count the champion's scores of further rows, both of shape [n]."""
        position = np.searchsorted(self.profile.scores.edges, scores, side="left")
        size, into = len(self.scores.rows), self.scores
        into.rows += np.bincount(position, minlength=size)
        into.sums += np.bincount(position, weights=scores, minlength=size)
        into.flagged += np.bincount(position[flagged], minlength=size)
        into.flagged_sums += np.bincount(position[flagged], weights=scores[flagged], minlength=size)

    @property
    def scored(self) -> int:
        """Rows that the champion decided."""
        return int(self.scores.rows.sum())


def _no_rows(profile: FeatureProfile) -> FeatureCounts:
    categories = None
    if profile.categories is not None:
        categories = np.zeros(len(profile.categories) + 1, np.int64)
    return FeatureCounts(np.zeros(len(profile.histogram.shares), np.int64), categories)


def _count(counts: FeatureCounts, profile: FeatureProfile, column: NDArray[np.float32]) -> None:
    known = column[~np.isnan(column)].astype(np.float64)
    counts.missing += len(column) - len(known)
    position = np.searchsorted(profile.histogram.edges, known, side="left")
    counts.bins += np.bincount(position, minlength=len(counts.bins))
    if counts.categories is not None and profile.categories is not None:
        counts.categories += _by_category(profile.categories, known)


def _by_category(categories: dict[str, float], known: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many rows have each category, and at the end how many have none of them."""
    # A category's key has six significant digits, so a value belongs to it if it has the same key.
    values = np.array([float(key) for key in categories])
    rank = np.argsort(values)
    nearest = np.clip(np.searchsorted(values[rank], known), 0, len(values) - 1)
    below = np.maximum(nearest - 1, 0)
    closer = np.abs(values[rank][below] - known) < np.abs(values[rank][nearest] - known)
    position = rank[np.where(closer, below, nearest)]
    same = np.isclose(values[position], known, rtol=1e-5, atol=1e-9)
    return np.bincount(np.where(same, position, len(values)), minlength=len(values) + 1)
