"""Data drift: each feature of a window against the reference profile.

A feature has drifted only where a test rejects after correction for all tests of the window, and the change
is large enough to matter: significance alone follows the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fraud_core.drift.movement import Movement, movement
from fraud_core.drift.statistics import (
    Counts,
    adjusted,
    corrected_psi,
    homogeneity_p,
    kolmogorov_smirnov,
    total_variation,
)
from fraud_core.drift.window import FeatureCounts, WindowCounts
from fraud_core.profile import FeatureProfile

Severity = Literal["none", "medium", "high", "critical", "insufficient"]
# From the least to the most urgent; insufficient is not on this scale.
URGENCY: Final[tuple[Severity, ...]] = ("none", "medium", "high", "critical")
DECILES: Final = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True, slots=True)
class DataRule:
    """When a feature has drifted.

    Attributes:
        min_rows: with fewer rows a window is not judged.
        medium, high: PSI from which one feature is enough for an alert, or for a retraining.
        drifted_psi, drifted_effect: PSI, or KS distance or total variation, from which it counts as drifted.
        drifted_missing: change of the share of missing values from which it counts as drifted.
        share: of drifted features, from which the window is `high`.
        significance: of the tests, after correction for their number.
    """

    min_rows: int
    medium: float
    high: float
    drifted_psi: float
    drifted_effect: float
    drifted_missing: float
    share: float
    significance: float


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature of a window.

    Attributes:
        psi: on the reference's deciles or categories and a bin for missing values, without sampling bias.
        effect: the KS distance of a number, the total variation of a category; `measure` says which.
        p_value: the smallest of its tests, corrected for all tests of the window.
        severity: insufficient if it was not judged; `reason` says why.
    """

    name: str
    measure: Literal["ks", "total_variation"]
    psi: float | None
    effect: float | None
    p_value: float | None
    missing: float | None
    missing_reference: float
    drifted: bool
    severity: Severity
    movement: Movement | None
    reason: str | None = None


def judge_features(
    window: WindowCounts, rule: DataRule, *, left_out: Sequence[str] = (), why: str = ""
) -> list[FeatureDrift]:
    """Compare every feature; all are insufficient if the window has too few rows.

    Args:
        left_out: names of features that cannot be judged over this window, for the reason `why`.
    """
    profiles = window.profile.features
    if window.rows < rule.min_rows:
        few = f"{window.rows} rows, and {rule.min_rows} are needed"
        return [_not_judged(one, few) for one in profiles]
    measured = {
        one.name: _measure(one, counts, window.rows, window.profile.rows)
        for one, counts in zip(profiles, window.features, strict=True)
        if one.name not in left_out
    }
    tests = adjusted(np.array([test.p_values for test in measured.values()]).ravel()).reshape(-1, 3)
    smallest = dict(zip(measured, tests, strict=True))
    return [
        _judged(one, measured[one.name], smallest[one.name], rule)
        if one.name in measured
        else _not_judged(one, why)
        for one in profiles
    ]


def share_drifted(features: Sequence[FeatureDrift]) -> float | None:
    """The share of the judged features that have drifted; None if none was judged."""
    judged = [one.drifted for one in features if one.severity != "insufficient"]
    return float(np.mean(judged)) if judged else None


def decile_groups(profile: FeatureProfile) -> NDArray[np.int64]:
    """Which decile bin each bin of the histogram belongs to, shape [edges + 1].

    A decile whose value occurs so often that it is also the next one has no bin of its own.
    """
    previous, group, groups = 0.0, 0, [0]
    for level in profile.levels:
        group += any(previous < decile <= level for decile in DECILES)
        groups.append(group)
        previous = level
    return np.array(groups)


def by_decile(profile: FeatureProfile, bins: Counts) -> Counts:
    """The bins of the histogram put together into those of the deciles, [edges + 1] → [at most 10]."""
    groups = decile_groups(profile)
    return np.array([bins[groups == group].sum() for group in range(groups[-1] + 1)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Measured:
    psi: float
    effect: float
    missing: float
    p_values: tuple[float, float, float]  # of shares, of the effect, of missing values
    movement: Movement


def _measure(profile: FeatureProfile, counts: FeatureCounts, rows: int, reference_rows: int) -> _Measured:
    known = reference_rows * (1 - profile.missing)
    current: Counts
    reference: Counts
    if profile.categories is not None and counts.categories is not None:
        current = counts.categories.astype(np.float64)
        reference = np.array([*profile.categories.values(), 0.0]) * known
        distance, distance_p = total_variation(current, reference), 1.0
    else:
        bins, histogram = counts.bins.astype(np.float64), np.array(profile.histogram.shares) * known
        distance, distance_p = kolmogorov_smirnov(bins, histogram)
        current, reference = by_decile(profile, bins), by_decile(profile, histogram)
    current = np.append(current, counts.missing)
    reference = np.append(reference, reference_rows * profile.missing)
    present = (
        np.array([rows - counts.missing, counts.missing], dtype=float),
        np.array([known, reference_rows - known]),
    )
    return _Measured(
        psi=corrected_psi(current, reference),
        effect=distance,
        missing=counts.missing / rows,
        p_values=(homogeneity_p(current, reference), distance_p, homogeneity_p(*present)),
        movement=movement(profile, counts, rows),
    )


def _judged(
    profile: FeatureProfile, measured: _Measured, p_values: NDArray[np.float64], rule: DataRule
) -> FeatureDrift:
    of_shares, of_effect, of_missing = (p < rule.significance for p in p_values)
    significant = bool(of_shares or of_effect or of_missing)
    drifted = bool(
        (of_shares and measured.psi >= rule.drifted_psi)
        or ((of_effect or of_shares) and measured.effect >= rule.drifted_effect)
        or (of_missing and abs(measured.missing - profile.missing) >= rule.drifted_missing)
    )
    severity: Severity = "none"
    if significant and measured.psi > rule.medium:
        severity = "high" if measured.psi > rule.high else "medium"
    return FeatureDrift(
        name=profile.name,
        measure=_measure_name(profile),
        psi=measured.psi,
        effect=measured.effect,
        p_value=float(p_values.min()),
        missing=measured.missing,
        missing_reference=profile.missing,
        drifted=drifted,
        severity=severity,
        movement=measured.movement,
    )


def _not_judged(profile: FeatureProfile, reason: str) -> FeatureDrift:
    return FeatureDrift(
        name=profile.name,
        measure=_measure_name(profile),
        psi=None,
        effect=None,
        p_value=None,
        missing=None,
        missing_reference=profile.missing,
        drifted=False,
        severity="insufficient",
        movement=None,
        reason=reason,
    )


def _measure_name(profile: FeatureProfile) -> Literal["ks", "total_variation"]:
    return "ks" if profile.categories is None else "total_variation"
