"""The decision whether a new model is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fraud_core.gate import GatePolicy
from fraud_core.metrics import Confusion, wilson_interval

Verdict = Literal["met", "missed", "unclear"]
_JUDGED: Final = ("recall", "fpr")


@dataclass(frozen=True, slots=True)
class RetrainingRule:
    """What speaks against a training.

    Attributes:
        min_interval: the last training finished a shorter time ago.
        min_new_labels: there are fewer new transactions with a known label.
        min_labels: with fewer labelled predictions the champion's performance is not judged.
    """

    min_interval: timedelta
    min_new_labels: int
    min_labels: int


@dataclass(frozen=True, slots=True)
class RetrainingEvidence:
    """What is known at the moment `now`.

    Attributes:
        champion: its version, None if there is none.
        last_training: when the last training finished, None if there was none.
        new_labels: transactions whose label is known now, and was not when the last training read labels.
        performance: the champion's deciding predictions against mature labels.
        forced: a person asked for a training.
        triggers: the reason of each open trigger.
    """

    now: datetime
    champion: str | None
    last_training: datetime | None
    new_labels: int
    performance: Confusion
    forced: bool = False
    triggers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PerformanceCheck:
    """One bound of the gate, and the 95 % interval (Wilson) of the served model's figure.

    `met`: the whole interval keeps the bound; `missed`: the whole interval lies beyond it; else `unclear`.
    """

    metric: str
    side: Literal["min", "max"]
    bound: float
    value: float | None
    low: float
    high: float
    verdict: Verdict

    def __str__(self) -> str:
        relation = "at least" if self.side == "min" else "at most"
        if self.value is None:
            return f"{self.metric} is unknown, must be {relation} {self.bound:g}"
        interval = f"({self.low:.4f} to {self.high:.4f})"
        return f"{self.metric} {self.value:.4f} {interval}, must be {relation} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class RetrainingDecision:
    """Whether to train, and why: one sentence each.

    Attributes:
        overrides: reasons that outweigh all others.
        against: each of the three reasons against a training that holds.
        in_favour: for each of the three that does not hold, what was found instead.
        checks: of the champion's performance.
    """

    retrain: bool
    overrides: tuple[str, ...]
    against: tuple[str, ...]
    in_favour: tuple[str, ...]
    checks: tuple[PerformanceCheck, ...]

    def sentence(self) -> str:
        """The decision and what decided it, on one line."""
        verdict = "Retrain" if self.retrain else "Do not retrain"
        reasons = self.overrides or self.against or self.in_favour
        return f"{verdict}: {'; '.join(reasons)}."

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def decide(rule: RetrainingRule, policy: GatePolicy, evidence: RetrainingEvidence) -> RetrainingDecision:
    """Decide whether to train.

    No training if the last one is recent, if there are too few new labels, or if the champion's performance
    is still acceptable. A request, an open trigger or the lack of a champion overrides all three.

    A training that was not needed costs little, because the gate judges its model, while a bad champion costs
    money every day. So the performance is acceptable only where that is shown: every bound is kept by the
    whole interval. An unclear bound, like too few labels, does not hold a training back.
    """
    checks = tuple(_performance_checks(policy, evidence.performance))
    findings = (
        _interval(rule, evidence),
        _new_labels(rule, evidence),
        _performance(rule, evidence.performance, checks),
    )
    overrides = tuple(_overrides(evidence))
    against = tuple(sentence for holds, sentence in findings if holds)
    in_favour = tuple(sentence for holds, sentence in findings if not holds)
    return RetrainingDecision(bool(overrides) or not against, overrides, against, in_favour, checks)


def _overrides(evidence: RetrainingEvidence) -> Iterator[str]:
    if evidence.forced:
        yield "it was asked for"
    for reason in evidence.triggers:
        yield f"open trigger: {reason.rstrip('.')}"
    if evidence.champion is None:
        yield "there is no champion"


def _interval(rule: RetrainingRule, evidence: RetrainingEvidence) -> tuple[bool, str]:
    if evidence.last_training is None:
        return False, "no training has finished yet"
    # A clock that was set back must not hold trainings back until it has caught up.
    passed = max(evidence.now - evidence.last_training, timedelta(0))
    sentence = f"the last training finished {_hours(passed)} ago"
    if passed < rule.min_interval:
        return True, f"{sentence}, less than {_hours(rule.min_interval)}"
    return False, sentence


def _new_labels(rule: RetrainingRule, evidence: RetrainingEvidence) -> tuple[bool, str]:
    sentence = f"{evidence.new_labels} new transactions have a known label"
    if evidence.new_labels < rule.min_new_labels:
        return True, f"{sentence}, fewer than {rule.min_new_labels}"
    return False, sentence


def _performance(
    rule: RetrainingRule, counts: Confusion, checks: Sequence[PerformanceCheck]
) -> tuple[bool, str]:
    if counts.total < rule.min_labels:
        return False, (
            f"{counts.total} predictions of the champion have a mature label, "
            f"too few to judge it by (needed {rule.min_labels})"
        )
    if not checks:
        return False, "the gate bounds neither recall nor FPR, so the champion is not judged"
    figures = "; ".join(map(str, checks))
    if all(check.verdict == "met" for check in checks):
        return True, f"the champion's performance is acceptable: {figures}"
    if any(check.verdict == "missed" for check in checks):
        return False, f"the champion's performance is not acceptable: {figures}"
    return False, f"the champion's performance is not shown to be acceptable: {figures}"


def _performance_checks(policy: GatePolicy, counts: Confusion) -> Iterator[PerformanceCheck]:
    proportions = {"recall": (counts.tp, counts.tp + counts.fn), "fpr": (counts.fp, counts.fp + counts.tn)}
    for metric, side, bound in policy.bounds():
        if metric not in _JUDGED:
            continue
        successes, trials = proportions[metric]
        low, high = wilson_interval(successes, trials)
        value = successes / trials if trials else None
        yield PerformanceCheck(metric, side, bound, value, low, high, _verdict(side, bound, low, high))


def _verdict(side: Literal["min", "max"], bound: float, low: float, high: float) -> Verdict:
    kept, broken = (low >= bound, high < bound) if side == "min" else (high <= bound, low > bound)
    return "met" if kept else "missed" if broken else "unclear"


def _hours(period: timedelta) -> str:
    return f"{period / timedelta(hours=1):.4g} h"
