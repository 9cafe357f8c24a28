"""Checks of the feature vectors against the champion's reference profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres.arrivals import Window
from fraud_adapters.postgres.feature_vectors import read_vectors
from fraud_core.profile import Profile
from fraud_core.quality import columns
from fraud_core.quality.checks import Check, insufficient
from fraud_core.quality.columns import WindowTally
from fraud_monitor.guarded import guarded
from fraud_monitor.run_context import RunContext

NAMES: Final = ("missing_values", "outliers", "distribution_shift", "anomalies")


@dataclass(frozen=True, slots=True)
class FeatureChecks:
    """The checks, the champion's features if they are known, and how many rows repeat another one's features."""

    checks: list[Check]
    champion: Sequence[str] | None = None
    repeated: int = 0


def read(context: RunContext, connection: Connection, window: Window) -> FeatureChecks:
    """Read the window's vectors, portion by portion, and compare them with the reference."""
    champion = guarded("champion", context.champion)
    if champion is None:
        return _without("There is no champion, so there is no reference to compare with.")
    if isinstance(champion, str):
        return _without(champion)
    features = None if champion.manifest is None else champion.manifest.features
    if champion.profile is None:
        return _without(champion.problem or "The champion has no reference profile.", features)
    tally = guarded("predictions", lambda: _tally(champion.profile, connection, window))
    if isinstance(tally, str):
        return _without(tally, features)
    rules, shift = context.parameters.quality, context.parameters.thresholds.data_drift
    return FeatureChecks(
        [
            columns.missing_values(tally, rules),
            columns.outliers(tally, rules),
            columns.distribution_shift(tally, rules, shift),
            columns.anomalies(tally, rules),
        ],
        features,
        tally.repeated,
    )


def _tally(profile: Profile | None, connection: Connection, window: Window) -> WindowTally:
    assert profile is not None
    tally = WindowTally(profile)
    read_vectors(connection, window.start, window.end, len(profile.features), tally.add)
    return tally


def _without(reason: str, champion: Sequence[str] | None = None) -> FeatureChecks:
    return FeatureChecks([insufficient(name, reason) for name in NAMES], champion)
