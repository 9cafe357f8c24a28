"""Measures drift: windows and labels against the champion's reference profile, and the verdict on them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from fraud_adapters.postgres import drift_metrics, performance_estimates
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.retraining_triggers import RunName
from fraud_core.drift.concept import PerformanceDrift, judge_performance
from fraud_core.drift.estimate import are_confirmed, estimate_performance
from fraud_core.drift.features import judge_features
from fraud_core.drift.statistics import corrected_psi
from fraud_core.drift.target import RateDrift, judge_rate
from fraud_core.drift.verdict import Verdict, WindowDrift, conclude
from fraud_core.metrics import Confusion
from fraud_core.profile import Profile
from fraud_monitor.drift import rules
from fraud_monitor.drift.labelling import LabelledEvidence, read_evidence
from fraud_monitor.drift.windows import CountedWindow, Reading, Sample, read_windows
from fraud_monitor.run_context import Champion, RunContext

NO_CHAMPION: Final = "There is no champion to compare with: train a first model."
_DAY: Final = timedelta(days=1)
_NOT_A_DAY: Final = "it follows the clock, and the window does not reach over a day"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run found.

    Attributes:
        now: the database's time, at which the windows end.
        windows: without a reference profile there are none.
        sample: rows of the short window; None without a profile.
        importance, since: by feature; see `conclude`.
    """

    now: datetime
    champion: Champion | None
    windows: tuple[WindowDrift, ...]
    fraud_rate: RateDrift
    performance: tuple[PerformanceDrift, ...]
    evidence: LabelledEvidence
    importance: Mapping[str, float] | None
    since: Mapping[str, datetime]
    sample: Sample | None
    verdict: Verdict


def measure(context: RunContext) -> Findings:
    """Measure drift of the champion.

    Without a champion, or with one whose profile cannot be used, the verdict is `insufficient`.

    Raises:
        DatabaseUnavailable, RegistryUnavailable: a server does not answer.
    """
    champion = context.champion()
    profile = champion.profile if champion else None
    windows: tuple[WindowDrift, ...] = ()
    since: dict[str, datetime] = {}
    sample = None
    if champion is not None and profile is not None:
        reading = read_windows(context, champion, profile)
        now, sample = reading.now, reading.sample
        confirmed = _confirmed(context, champion)
        windows = tuple(_judged(context, profile, window, reading, confirmed) for window in reading.windows)
        since = _since(context, champion, now)
    else:
        with closing(context.database()) as connection:
            now = database_clock(connection)
    evidence = _evidence(context, champion, now)
    fraud_rate = _fraud_rate(context, profile, evidence)
    performance = _performance(context, champion, evidence)
    importance = profile.importance if profile else None
    problem = NO_CHAMPION if champion is None else champion.problem
    verdict = conclude(windows, fraud_rate, performance, importance=importance, since=since, problem=problem)
    return Findings(
        now, champion, windows, fraud_rate, performance, evidence, importance, since, sample, verdict
    )


def _confirmed(context: RunContext, champion: Champion) -> bool:
    """Whether mature labels have confirmed the champion's latest estimates."""
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        coverage = performance_estimates.latest_coverage(cursor, champion.version)
    return are_confirmed(coverage, context.parameters.drift.estimate_confidence)


def _judged(
    context: RunContext, profile: Profile, window: CountedWindow, reading: Reading, confirmed: bool
) -> WindowDrift:
    drift, counts = context.parameters.drift, window.counts
    clocked = [] if window.covers(_DAY) else rules.clock_features(context.contract)
    features = judge_features(counts, rules.data_rule(context.parameters), left_out=clocked, why=_NOT_A_DAY)
    held_out = np.array(profile.scores.shares) * profile.scored_rows
    score_psi = (
        corrected_psi(counts.scores.rows.astype(float), held_out)
        if counts.scored >= drift.inputs.min_rows
        else None
    )
    rate = judge_rate(
        "predicted_rate",
        int(counts.scores.flagged.sum()),
        counts.scored,
        profile.alert_rate,
        rules.rate_rule(context.parameters),
    )
    estimates = (
        estimate_performance(profile, counts.scores, drift.estimate_confidence)
        if counts.scored >= drift.inputs.min_rows
        else []
    )
    moved = any(one.drifted for one in features) or (score_psi or 0.0) >= drift.inputs.drifted_psi
    return WindowDrift(
        name=window.name,
        start=window.start,
        end=window.end,
        rows=counts.rows,
        scored=counts.scored,
        ahead=reading.ahead,
        features=tuple(features),
        share_bound=drift.inputs.share,
        score_psi=score_psi,
        predicted_rate=rate,
        estimates=tuple(estimates),
        trusted=confirmed and not moved and rate.severity == "none",
    )


def _since(context: RunContext, champion: Champion, now: datetime) -> dict[str, datetime]:
    severe = context.parameters.drift.inputs.drifted_psi
    run = RunName(context.run.dag, context.run.run_id)
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        return drift_metrics.drifting_since(cursor, run, champion.version, now, severe)


def _evidence(context: RunContext, champion: Champion | None, now: datetime) -> LabelledEvidence:
    if champion is None:
        nothing = Confusion(0, 0, 0, 0)
        return LabelledEvidence(nothing, None, None, nothing, "there is no champion")
    return read_evidence(context, champion.version, now)


def _fraud_rate(context: RunContext, profile: Profile | None, evidence: LabelledEvidence) -> RateDrift:
    rated = evidence.rated
    return judge_rate(
        "fraud_rate",
        rated.tp + rated.fn,
        rated.total,
        profile.scored_fraud_rate if profile else 0.0,
        rules.rate_rule(context.parameters),
        unknown=evidence.rate_unknown if profile else "there is no reference profile",
    )


def _performance(
    context: RunContext, champion: Champion | None, evidence: LabelledEvidence
) -> tuple[PerformanceDrift, ...]:
    baseline = champion.manifest.metrics if champion and champion.manifest else {}
    rule = rules.concept_rule(context.parameters)
    return tuple(judge_performance(evidence.performance, context.policy, baseline, rule))
