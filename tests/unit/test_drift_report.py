"""The report for people, and our figures beside Evidently's where both compute the same."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from fraud_core.drift.features import by_decile, decile_groups
from fraud_core.drift.statistics import kolmogorov_smirnov, psi, smoothed
from fraud_core.drift.window import WindowCounts
from fraud_core.profile import Profile, make_profile
from fraud_monitor.drift.report import make_report

NAMES = ("amount", "kind", "fee")


def rows(n: int, seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    source = np.random.default_rng(seed)
    return np.column_stack(
        [
            source.lognormal(3 + shift, 1, n),
            source.choice([0.0, 1.0, 2.0], n, p=[0.7 - shift / 4, 0.2, 0.1 + shift / 4]),
            source.normal(shift, 1, n),
        ]
    ).astype(np.float32)


@pytest.fixture(scope="module")
def reference() -> NDArray[np.float32]:
    return rows(10_000, seed=0)


@pytest.fixture(scope="module")
def profile(reference: NDArray[np.float32]) -> Profile:
    source = np.random.default_rng(0)
    scores = source.beta(0.2, 3, len(reference))
    return make_profile(
        "test/1",
        NAMES,
        reference,
        (source.random(len(reference)) < 0.05).astype(np.int8),
        held_out_labels=(source.random(len(reference)) < scores).astype(np.int8),
        held_out_scores=scores,
        threshold=0.3,
    )


def test_psi_and_distances_are_evidentlys_on_the_same_bins(
    profile: Profile, reference: NDArray[np.float32]
) -> None:
    """On bins of the reference's quantiles, given to it as categories; on its own bins it differs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently.legacy.calculations.stattests import psi_stat_test  # noqa: PLC0415
        from evidently.legacy.core import ColumnType  # noqa: PLC0415

    window = rows(4000, seed=1, shift=0.6)
    counts = WindowCounts(profile)
    counts.add(window)
    for column, (feature, counted) in enumerate(zip(profile.features, counts.features, strict=True)):
        if counted.categories is None:
            groups, edges = decile_groups(feature), feature.histogram.edges
            own = by_decile(feature, counted.bins.astype(float))
            other = by_decile(feature, np.array(feature.histogram.shares) * profile.rows)
            bins = [
                pd.Series(groups[np.searchsorted(edges, values.astype(float), side="left")]).astype(str)
                for values in (reference[:, column], window[:, column])
            ]
        else:
            own = counted.categories[:-1].astype(float)
            other = np.array(list((feature.categories or {}).values())) * profile.rows
            bins = [pd.Series(values).astype(str) for values in (reference[:, column], window[:, column])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = psi_stat_test(*bins, ColumnType.Categorical, 0.1).drift_score
        assert psi(own / own.sum(), other / other.sum()) == pytest.approx(theirs, rel=1e-6)
        # What we add to each count changes next to nothing.
        assert psi(smoothed(own), smoothed(other)) == pytest.approx(theirs, rel=0.01)


def test_the_ks_distance_is_nearly_evidentlys(profile: Profile, reference: NDArray[np.float32]) -> None:
    """Evidently tests by scipy's; ours sees the difference at the profile's edges only."""
    window = rows(4000, seed=1, shift=0.6)
    counts = WindowCounts(profile)
    counts.add(window)
    shares = np.array(profile.features[0].histogram.shares) * profile.rows
    distance, _ = kolmogorov_smirnov(counts.features[0].bins.astype(float), shares)
    exact = stats.ks_2samp(reference[:, 0], window[:, 0]).statistic
    assert exact - 0.03 <= distance <= exact


def test_a_page_begins_with_our_verdict_and_loads_nothing(profile: Profile) -> None:
    window = rows(400, seed=2, shift=0.5)
    window[:, 2] = np.nan  # Evidently itself ends with an error at a column without values
    scores = np.random.default_rng(1).random(400)
    page = make_report(profile, window, scores, "Drift of inputs (high)", "amount: <median> up\nSecond line.")
    assert page is not None
    assert page.index("Content-Security-Policy") < page.index("<script")
    assert page.index("Drift of inputs (high)") < page.index("amount: &lt;median&gt; up")
    assert "Not drawn, as the window or the reference has no values: fee." in page
    assert ' src="http' not in page
    assert "@import" not in page[:200_000]


def test_too_few_rows_make_no_page(profile: Profile) -> None:
    assert make_report(profile, rows(19, seed=2), np.zeros(19), "Drift", "text") is None
