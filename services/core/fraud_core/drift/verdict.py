"""The verdict of a run: what was found in each window, how severe it is, and what it says to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fraud_core.drift.concept import PerformanceDrift
from fraud_core.drift.estimate import Estimate
from fraud_core.drift.features import URGENCY, FeatureDrift, Severity, share_drifted
from fraud_core.drift.target import RateDrift

NAMED_FEATURES: Final = 3


@dataclass(frozen=True, slots=True)
class WindowDrift:
    """What was found in one window of time.

    Attributes:
        ahead: rows left out because their time lies ahead of the database's clock.
        share: of the judged features that have drifted; None if none was judged.
        share_bound: from which the window is `high`.
        estimates: of the performance, without labels; `trusted` says whether they may be relied on.
    """

    name: str
    start: datetime
    end: datetime
    rows: int
    scored: int
    ahead: int
    features: tuple[FeatureDrift, ...]
    share_bound: float
    score_psi: float | None
    predicted_rate: RateDrift
    estimates: tuple[Estimate, ...]
    trusted: bool

    @property
    def share(self) -> float | None:
        return share_drifted(self.features)

    @property
    def data_severity(self) -> Severity:
        of_share: Severity = "high" if self.share is not None and self.share >= self.share_bound else "none"
        judged = [one.severity for one in self.features if one.severity != "insufficient"]
        return worst([*judged, of_share]) if judged else "insufficient"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict: the most urgent of what could be judged.

    Attributes:
        severity: `insufficient` if the inputs could not be judged and nothing else has drifted.
        unknown: what could not be judged, each with its reason.
    """

    severity: Severity
    data: Severity
    target: Severity
    concept: Severity
    title: str
    text: str
    top: tuple[FeatureDrift, ...]
    unknown: tuple[str, ...]


def worst(severities: Sequence[Severity]) -> Severity:
    """The most urgent; insufficient if nothing was judged."""
    judged = [one for one in severities if one != "insufficient"]
    return max(judged, key=URGENCY.index) if judged else "insufficient"


def conclude(
    windows: Sequence[WindowDrift],
    fraud_rate: RateDrift,
    performance: Sequence[PerformanceDrift],
    *,
    importance: Mapping[str, float] | None,
    since: Mapping[str, datetime],
    problem: str | None = None,
) -> Verdict:
    """Combine what was found.

    Args:
        importance: the share that each feature has in the champion's decisions, if it was recorded.
        since: for a feature that was found drifting before without a break, the first time.
        problem: why the inputs could not be compared at all, in one sentence.
    """
    data = worst([window.data_severity for window in windows])
    target = worst([fraud_rate.severity, *(window.predicted_rate.severity for window in windows)])
    concept = worst([one.severity for one in performance])
    severity = worst([data, target, concept])
    if data == "insufficient" and severity == "none":
        severity = "insufficient"
    top = most_moved(windows)
    unknown = tuple(_unknown(windows, fraud_rate, performance, problem))
    sentences = [
        *_performance_sentences(performance),
        *_rate_sentences(windows, fraud_rate),
        *_feature_sentences(windows, top, importance, since),
        *(f"Not known: {'; '.join(unknown)}." for _ in unknown[:1]),
    ]
    return Verdict(
        severity,
        data,
        target,
        concept,
        _title(severity, data, target, concept),
        "\n".join(sentences),
        top,
        unknown,
    )


def most_moved(windows: Sequence[WindowDrift]) -> tuple[FeatureDrift, ...]:
    """The features with the largest PSI, each in the window in which it moved most."""
    largest: dict[str, FeatureDrift] = {}
    for window in windows:
        for one in window.features:
            before = largest.get(one.name)
            if one.psi is not None and (before is None or (before.psi or 0.0) < one.psi):
                largest[one.name] = one
    ranked = sorted(largest.values(), key=lambda one: one.psi or 0.0, reverse=True)
    return tuple(ranked[:NAMED_FEATURES])


def _title(severity: Severity, data: Severity, target: Severity, concept: Severity) -> str:
    if severity == "insufficient":
        return "Drift: too little data to judge"
    if severity == "none":
        return "No drift"
    kinds = {"performance": concept, "inputs": data, "target": target}
    drifted = [name for name, one in kinds.items() if one not in {"none", "insufficient"}]
    return f"Drift of {' and '.join(drifted)} ({severity})"


def _performance_sentences(performance: Sequence[PerformanceDrift]) -> list[str]:
    broken = [str(one) for one in performance if one.severity in {"critical", "medium"}]
    return [f"On mature labels: {'; '.join(broken)}."] if broken else []


def _rate_sentences(windows: Sequence[WindowDrift], fraud_rate: RateDrift) -> list[str]:
    changed = [f"{fraud_rate}"] if fraud_rate.severity == "medium" else []
    changed += [
        f"{window.predicted_rate} (last {window.name})"
        for window in windows
        if window.predicted_rate.severity == "medium"
    ]
    return [f"Changed by more than allowed: {'; '.join(changed)}."] if changed else []


def _feature_sentences(
    windows: Sequence[WindowDrift],
    top: Sequence[FeatureDrift],
    importance: Mapping[str, float] | None,
    since: Mapping[str, datetime],
) -> list[str]:
    if worst([window.data_severity for window in windows]) in {"none", "insufficient"}:
        return []
    shares = [
        f"{window.share:.0%} in the last {window.name}" for window in windows if window.share is not None
    ]
    lines = [f"Share of features that have drifted: {', '.join(shares)}. Most moved:"]
    lines += [f"- {_feature_line(one, importance, since)}" for one in top]
    if importance is None:
        return [*lines, "The champion's profile does not record the importance of its features."]
    carried = sum(importance.get(one.name, 0.0) for one in top)
    return [*lines, f"Together they carry {carried:.0%} of the champion's importance."]


def _feature_line(
    one: FeatureDrift, importance: Mapping[str, float] | None, since: Mapping[str, datetime]
) -> str:
    begun = f"since {since[one.name]:%Y-%m-%d %H:%M} UTC" if one.name in since else "new in this run"
    if not one.drifted:
        begun = "not enough to count as drift"
    weight = "" if importance is None else f", {importance.get(one.name, 0.0):.0%} of the importance"
    return f"{one.name}: {one.movement}, PSI {one.psi:.2f}, {begun}{weight}"


def _unknown(
    windows: Sequence[WindowDrift],
    fraud_rate: RateDrift,
    performance: Sequence[PerformanceDrift],
    problem: str | None,
) -> list[str]:
    reasons = [problem.rstrip(".")] if problem else []
    for window in windows:
        ahead = f", {window.ahead} more lie ahead of the clock" if window.ahead else ""
        if window.data_severity == "insufficient" and window.features:
            reasons.append(f"inputs of the last {window.name} ({window.features[0].reason}{ahead})")
        if window.predicted_rate.severity == "insufficient":
            reasons.append(f"predicted rate of the last {window.name} ({window.predicted_rate.reason})")
    if fraud_rate.severity == "insufficient":
        reasons.append(f"fraud rate ({fraud_rate.reason})")
    reasons += [f"{one.metric} ({one.reason})" for one in performance if one.severity == "insufficient"]
    return reasons
