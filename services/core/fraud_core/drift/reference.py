"""Rows that look like the reference, feature by feature, for pictures that need rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud_core.profile import FeatureProfile, Profile


def reference_rows(profile: Profile, rows: int, seed: int) -> NDArray[np.float64]:
    """Draw rows whose features are distributed as the profile says, each by itself; shape [rows, k].

    Between two quantiles values are spread evenly, so that a picture has steps there. Features are drawn
    independently: nothing about how they depend on each other may be read from the rows.
    """
    source = np.random.default_rng(seed)
    columns = [_column(one, rows, source) for one in profile.features]
    return np.column_stack(columns) if columns else np.empty((rows, 0))


def reference_scores(profile: Profile, rows: int, seed: int) -> NDArray[np.float64]:
    """Scores distributed as on the held-out part, shape [rows]."""
    edges = np.array([0.0, *profile.scores.edges, 1.0])
    return _between(edges, np.array(profile.scores.shares), rows, np.random.default_rng(seed))


def _column(profile: FeatureProfile, rows: int, source: np.random.Generator) -> NDArray[np.float64]:
    if profile.missing == 1 or profile.low is None or profile.high is None:
        return np.full(rows, np.nan)
    if profile.categories is not None:
        values = np.array([float(key) for key in profile.categories])
        shares = np.array(list(profile.categories.values()))
        column = source.choice(values, rows, p=shares / shares.sum())
    else:
        edges = np.array(
            [profile.low, *profile.histogram.edges, max(profile.high, profile.histogram.edges[-1])]
        )
        column = _between(edges, np.array(profile.histogram.shares), rows, source)
    column[source.random(rows) < profile.missing] = np.nan
    return column


def _between(
    edges: NDArray[np.float64], shares: NDArray[np.float64], rows: int, source: np.random.Generator
) -> NDArray[np.float64]:
    bins = source.choice(len(shares), rows, p=shares / shares.sum())
    low, high = edges[:-1][bins], edges[1:][bins]
    return np.asarray(low + (high - low) * source.random(rows))
