"""Checks of the feature vectors against the champion's reference profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import model_versions
from fraud_adapters.postgres.arrivals import Window
from fraud_adapters.postgres.scored_windows import ScoredWindow, read_scored
from fraud_core.quality import columns
from fraud_core.quality.checks import Check, insufficient
from fraud_core.quality.columns import WindowTally
from fraud_monitor.guarded import guarded
from fraud_monitor.run_context import Champion, RunContext

NAMES: Final = ("missing_values", "outliers", "distribution_shift", "anomalies")


@dataclass(frozen=True, slots=True)
class FeatureChecks:
    """The checks.

    Attributes:
        champion: its features, if they are known.
        repeated: rows with the same features as another one.
    """

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
    tally = guarded("predictions", lambda: _tally(context, champion, connection, window))
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


def _tally(context: RunContext, champion: Champion, connection: Connection, window: Window) -> WindowTally:
    assert champion.profile is not None
    tally = WindowTally(champion.profile)
    with connection, connection.cursor() as cursor:
        versions = model_versions.versions_of_contract(cursor, context.contract.schema_id)
    scored = ScoredWindow(
        sorted({*versions, champion.version}),
        champion.version,
        len(champion.profile.features),
        window.start,
        window.end,
    )
    read_scored(connection, scored, lambda rows: tally.add(rows.features))
    return tally


def _without(reason: str, champion: Sequence[str] | None = None) -> FeatureChecks:
    return FeatureChecks([insufficient(name, reason) for name in NAMES], champion)
