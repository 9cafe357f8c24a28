"""Checks of the features of a window against the model's reference profile.

The rows are counted portion by portion, so that memory does not grow with the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.drift.features import DataRule, judge_features
from fraud_core.drift.window import WindowCounts
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
_SIGNIFICANCE: Final = 0.001  # of a shift, corrected for the number of features
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class OutlierTally:
    """What was counted of one feature beyond the fences of the reference; not of features with categories."""

    reference: FeatureProfile
    count: int = 0
    bounds: tuple[float, float] | None = field(init=False)

    def __post_init__(self) -> None:
        number = self.reference.categories is None
        self.bounds = fences(self.reference.histogram.edges, self.reference.levels) if number else None

    @property
    def usual(self) -> float:
        """The reference's own share of outliers."""
        if self.bounds is None:
            return 0.0
        if self.reference.outliers is not None:
            return self.reference.outliers
        # A profile without the share: at most what lies beyond the next quantiles inside the fences.
        edges, levels = np.array(self.reference.histogram.edges), np.array(self.reference.levels)
        low, high = self.bounds
        below = levels[edges >= low][0] if (edges >= low).any() else 1.0
        above = 1 - levels[edges <= high][-1] if (edges <= high).any() else 1.0
        return float(min(1.0, below + above))

    def add(self, column: NDArray[np.float32]) -> None:
        """Count values of shape [n], NaN where missing."""
        if self.bounds is not None:
            self.count += count_beyond(column, self.bounds)


@dataclass
class WindowTally:
    """What was counted of a window's feature vectors."""

    reference: Profile
    anomalies: int = 0
    counts: WindowCounts = field(init=False)
    outliers: list[OutlierTally] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = WindowCounts(self.reference)
        self.outliers = [OutlierTally(feature) for feature in self.reference.features]
        self._hashes: list[NDArray[np.uint64]] = []

    @property
    def rows(self) -> int:
        return self.counts.rows

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Count rows of shape [n, k], in the order of the profile's features."""
        self.counts.add(vectors)
        for position, tally in enumerate(self.outliers):
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

    def unusual(self) -> dict[str, tuple[int, float]]:
        """By feature, the outliers and values of no known category, and the reference's share of them.

        Without features whose values are nearly all the same, of which no value is an outlier.
        """
        found = {}
        for tally, counts in zip(self.outliers, self.counts.features, strict=True):
            if counts.categories is not None:
                found[tally.reference.name] = (int(counts.categories[-1]), 0.0)
            elif tally.bounds is not None:
                found[tally.reference.name] = (tally.count, tally.usual)
        return found


def row_hashes(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row, shape [n, k] → [n]; a million rows collide with a chance of 3e-8."""
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
    counted = {
        reference.name: (counts.missing, reference.missing)
        for reference, counts in zip(tally.reference.features, tally.counts.features, strict=True)
    }
    return _of_features(name, counted, tally.rows, rules.missing, "missing")


def outliers(tally: WindowTally, rules: QualityRules) -> Check:
    """Whether values lie beyond the fences, or outside the categories, more often than in the reference."""
    name = "outliers"
    if short := _too_few(name, tally, rules):
        return short
    counted = tally.unusual()
    if not counted:
        return insufficient(name, "The reference has no feature with a spread, so nothing is an outlier.")
    return _of_features(name, counted, tally.rows, rules.outliers, "outliers")


def distribution_shift(tally: WindowTally, rules: QualityRules, max_psi: float) -> Check:
    """Whether the features are distributed as in the reference, by the PSI of drift monitoring.

    Args:
        max_psi: the threshold of data drift.
    """
    name = "distribution_shift"
    if short := _too_few(name, tally, rules):
        return short
    rule = DataRule(
        min_rows=rules.min_rows,
        medium=max_psi,
        high=inf,
        drifted_psi=rules.shift_warn,
        drifted_effect=inf,
        drifted_missing=inf,
        share=1.0,
        significance=_SIGNIFICANCE,
    )
    features = sorted(judge_features(tally.counts, rule), key=lambda one: one.psi or 0.0, reverse=True)
    shifted = [one.name for one in features if one.drifted]
    failed = any(one.severity != "none" for one in features)
    status = Status.FAILED if failed else Status.WARNED if shifted else Status.PASSED
    top = features[0]
    named = f" ({', '.join(shifted[:_SHOWN])})" if shifted else ""
    return Check(
        name,
        status,
        f"{len(shifted)} of {plural(len(features), 'feature')} shifted{named}; the largest PSI is "
        f"{top.psi or 0.0:.3f}, of "
        f"{top.name}, over {plural(tally.rows, 'row')}.",
        value=top.psi,
        bound=max_psi,
        rows=tally.rows,
        details={"psi": {one.name: one.psi for one in features[:_SHOWN]}, "beyond": shifted},
    )


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
        f"{percent(share)} of {plural(tally.rows, 'row')} lie beyond the distance that "
        f"{percent(usual)} of the "
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
    ranked = sorted(
        counted, key=lambda feature: counted[feature][0] / rows - counted[feature][1], reverse=True
    )
    top, (count, usual) = ranked[0], counted[ranked[0]]
    shown = [feature for feature in ranked if statuses[feature] is not Status.PASSED][:_SHOWN]
    subject = f"in {', '.join(shown)}" if shown else "as in the reference"
    return Check(
        name,
        status,
        f"{what.capitalize()} {subject}: the most are {percent(count / rows)} of "
        f"{plural(rows, 'value')} of {top}, "
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
