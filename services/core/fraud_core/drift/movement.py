"""How a feature moved, for people: the figure that changed most, its direction, from what and to what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from fraud_core.drift.window import FeatureCounts
from fraud_core.profile import FeatureProfile

_QUANTILES: Final = {0.1: "10 % quantile", 0.5: "median", 0.9: "90 % quantile"}


@dataclass(frozen=True, slots=True)
class Movement:
    """`figure` went from `before` in the reference to `after` in the window.

    `beyond`: `after` is the outermost edge of the reference's histogram, and the figure lies beyond it.
    """

    figure: str
    before: float
    after: float
    beyond: bool = False

    @property
    def direction(self) -> Literal["up", "down", "unchanged"]:
        if self.after == self.before:
            return "unchanged"
        return "up" if self.after > self.before else "down"

    def __str__(self) -> str:
        to = "to beyond" if self.beyond else "to"
        return f"{self.figure} {self.direction} from {self.before:.4g} {to} {self.after:.4g}"


def movement(profile: FeatureProfile, counts: FeatureCounts, rows: int) -> Movement:
    """The share of missing values if that moved most, else a category's share, else a quantile."""
    missing = Movement("share missing", profile.missing, counts.missing / rows)
    known = rows - counts.missing
    if not known or profile.missing == 1:
        return missing
    if profile.categories is not None and counts.categories is not None:
        other = _of_categories(profile.categories, counts.categories / known)
        moved = abs(other.after - other.before)
    else:
        other, moved = _of_quantiles(profile, counts.bins / known)
    return missing if abs(missing.after - missing.before) > moved else other


def _of_categories(before: dict[str, float], after: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Movement:
    names, shares = [*before, "new values"], np.array([*before.values(), 0.0])
    most = int(np.argmax(np.abs(after - shares)))
    return Movement(f"share of {names[most]}", float(shares[most]), float(after[most]))


def _of_quantiles(
    profile: FeatureProfile, shares: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> tuple[Movement, float]:
    """The quantile that moved most, and the largest change of the share below an edge."""
    edges, reference = profile.histogram.edges, np.cumsum(profile.histogram.shares)[:-1]
    cumulated = np.cumsum(shares)[:-1]
    spread = profile.deviation or 1.0
    movements = [
        # Between edges the values are taken to be spread evenly; beyond the outermost ones nothing is known.
        Movement(
            name,
            float(np.interp(level, reference, edges)),
            float(np.interp(level, cumulated, edges)),
            beyond=not cumulated[0] <= level <= cumulated[-1],
        )
        for level, name in _QUANTILES.items()
    ]
    most = max(movements, key=lambda one: abs(one.after - one.before) / spread)
    return most, float(np.max(np.abs(cumulated - reference)))
