"""Checks of the features of a window against the model's reference profile.

The rows are counted portion by portion, so that memory does not grow with the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.outliers import count_beyond, fences
from fraud_core.profile import FeatureProfile, Profile
from fraud_core.quality.checks import (
    Check,
    Limit,
    Status,
    insufficient,
    percent,
    plural,
    share_status,
    worst,
)
from fraud_core.quality.rules import QualityRules

_SHOWN: Final = 5  # features that a check names
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class FeatureTally:
    """What was counted of one feature: missing values, outliers, and values in each bin of the reference."""

    reference: FeatureProfile
    missing: int = 0
    outliers: int = 0
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.reference.histogram.shares), dtype=np.int64)
        self._fences = fences(self.reference.histogram.edges, self.reference.levels)
        categories = self.reference.categories
        self._categories = None if categories is None else np.array([float(name) for name in categories])

    @property
    def judged(self) -> bool:
        """Whether the reference says which values are outliers."""
        return self._categories is not None or self._fences is not None

    @property
    def usual_outliers(self) -> float:
        """The reference's own share of outliers."""
        if self._categories is not None or self._fences is None:
            return 0.0
        if self.reference.outliers is not None:
            return self.reference.outliers
        # A profile without the share: at most what lies beyond the next quantiles inside the fences.
        edges, levels = np.array(self.reference.histogram.edges), np.array(self.reference.levels)
        low, high = self._fences
        below = levels[edges >= low][0] if (edges >= low).any() else 1.0
        above = 1 - levels[edges <= high][-1] if (edges <= high).any() else 1.0
        return float(min(1.0, below + above))

    def add(self, column: NDArray[np.float32]) -> None:
        """Count values of shape [n], NaN where missing."""
        known = column[~np.isnan(column)].astype(np.float64)
        self.missing += len(column) - len(known)
        bins = np.searchsorted(self.reference.histogram.edges, known, side="left")
        self.counts += np.bincount(bins, minlength=len(self.counts))
        if self._categories is not None:
            # Compared as the profile writes them, with six digits.
            near = np.isclose(known[:, None], self._categories[None, :], rtol=1e-5, atol=1e-9)
            self.outliers += int(np.count_nonzero(~near.any(axis=1)))
        elif self._fences is not None:
            self.outliers += count_beyond(known, self._fences)


@dataclass
class WindowTally:
    """What was counted of a window's feature vectors."""

    reference: Profile
    rows: int = 0
    anomalies: int = 0
    features: list[FeatureTally] = field(init=False)

    def __post_init__(self) -> None:
        self.features = [FeatureTally(feature) for feature in self.reference.features]
        self._hashes: list[NDArray[np.uint64]] = []

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Count rows of shape [n, k], in the order of the profile's features."""
        self.rows += len(vectors)
        for position, tally in enumerate(self.features):
            tally.add(vectors[:, position])
        if self.reference.multivariate is not None:
            self.anomalies += self.reference.multivariate.beyond(vectors)
        self._hashes.append(row_hashes(vectors))

    @property
    def repeated(self) -> int:
        """Rows that have the same features as an earlier row."""
        if not self._hashes:
            return 0
        hashes = np.concatenate(self._hashes)
        return len(hashes) - len(np.unique(hashes))


def row_hashes(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row, shape [n, k] → [n]; among a million rows a collision is improbable (3e-8)."""
    bits = np.ascontiguousarray(vectors).view(np.uint32).astype(np.uint64)
    hashes = np.full(len(vectors), 0xCBF29CE484222325, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in bits.T:
            hashes = (hashes ^ column) * _MULTIPLIER
            hashes ^= hashes >> np.uint64(29)
    return hashes


def missing_values(tally: WindowTally, rules: QualityRules) -> Check:
    """Whether values are missing more often than in the reference."""
    name = "missing_values"
    if short := _too_few(name, tally, rules):
        return short
    excess = {
        feature.reference.name: (feature.missing, feature.reference.missing) for feature in tally.features
    }
    return _of_features(name, excess, tally.rows, rules.missing, "values are missing")


def outliers(tally: WindowTally, rules: QualityRules) -> Check:
    """Whether values lie beyond the fences, or outside the categories, more often than in the reference."""
    name = "outliers"
    if short := _too_few(name, tally, rules):
        return short
    counted = {
        feature.reference.name: (feature.outliers, feature.usual_outliers)
        for feature in tally.features
        if feature.judged
    }
    if not counted:
        return insufficient(name, "The reference has no feature with a spread, so nothing is an outlier.")
    return _of_features(name, counted, tally.rows, rules.outliers, "values are outliers")


def anomalies(tally: WindowTally, rules: QualityRules) -> Check:
    """Whether rows are unusual as a whole more often than in the reference."""
    name = "anomalies"
    if short := _too_few(name, tally, rules):
        return short
    shape = tally.reference.multivariate
    if shape is None:
        return insufficient(
            name, "The champion's profile has no multivariate quantile: train a new version.", rows=tally.rows
        )
    usual = 1 - shape.level
    share = tally.anomalies / tally.rows
    return Check(
        name,
        share_status(tally.anomalies, tally.rows, rules.anomalies, usual),
        f"{percent(share)} of {plural(tally.rows, 'row')} lie beyond the distance that {percent(usual)} of the "
        "reference's rows exceed.",
        value=share,
        bound=usual + rules.anomalies.fail,
        rows=tally.rows,
        details={"anomalies": tally.anomalies, "usual": usual},
    )


def _too_few(name: str, tally: WindowTally, rules: QualityRules) -> Check | None:
    if tally.rows >= rules.min_rows:
        return None
    return insufficient(
        name, f"{plural(tally.rows, 'row')} in the window, {rules.min_rows:,} are needed.", rows=tally.rows
    )


def _of_features(
    name: str, counted: dict[str, tuple[int, float]], rows: int, limit: Limit, what: str
) -> Check:
    """The check of shares by feature: counts, and the reference's shares."""
    statuses = {
        feature: share_status(count, rows, limit, usual) for feature, (count, usual) in counted.items()
    }
    status = worst(list(statuses.values()))
    ranked = sorted(counted, key=lambda feature: counted[feature][0] / rows - counted[feature][1], reverse=True)
    top, (count, usual) = ranked[0], counted[ranked[0]]
    shown = [feature for feature in ranked if statuses[feature] is not Status.PASSED][:_SHOWN]
    subject = ", ".join(shown) or "no feature stands out; most"
    return Check(
        name,
        status,
        f"{what.capitalize()} in {subject}: {percent(count / rows)} of {plural(rows, 'row')} of {top}, "
        f"{percent(usual)} in the reference.",
        value=count / rows,
        bound=usual + limit.fail,
        rows=rows,
        details={
            "features": {
                feature: {"share": counted[feature][0] / rows, "reference": counted[feature][1]}
                for feature in ranked[:_SHOWN]
            },
            "beyond": shown,
        },
    )
