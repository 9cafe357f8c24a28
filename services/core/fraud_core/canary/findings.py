"""The checks of a release over the arrays of n stages: what is known, and whether it is within its bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.canary.evidence import SCORE_BINS
from fraud_core.canary.paired import difference_interval
from fraud_core.canary.rules import JudgementRules
from fraud_core.canary.sequential import JEFFREYS, Prior, interval
from fraud_core.canary.tables import ArmTable, Floats, LiveTable, PairedTable, Rate, TrafficTable

Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]
Ends = tuple[Floats, Floats]

INSUFFICIENT, PASSED, FAILED = 0, 1, 2
INCONCLUSIVE, PROMOTE, ROLL_BACK = 0, 1, 2

# A wrong share says that the arms cannot be compared, not that the model is bad.
INVALIDATING: Final = "sample_ratio"
COMPARED: Final = ("alert_rate", "score_distribution", "live_recall", "live_fpr")
# Recall and FPR may be shown on either kind of labels; neither kind may speak against the model.
EITHER: Final = (("recall", "live_recall"), ("fpr", "live_fpr"))

# How strongly an interval expects proportions near its prior's mean. Chosen for few samples at the rates that
# occur (docs/releases-judgement.md), and without influence on the chance of a false alarm.
CALLS_STRENGTH: Final = 20.0
ALERTS_STRENGTH: Final = 50.0
RATIO_STRENGTH: Final = 200.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's figure with its interval and bound, and the outcome's code, each [n]."""

    value: Floats
    low: Floats
    high: Floats
    bound: float
    outcome: Codes


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a difference may be, and the samples before it is judged at all."""

    most: float
    minimum: int

    def hold(self, value: Floats, low: Floats, high: Floats, samples: Floats) -> Finding:
        """Whether all of a difference's interval lies beyond the bound, or within it."""
        enough = samples >= self.minimum
        outcome = _codes(enough & (low > self.most), enough & (high < self.most))
        return Finding(value, low, high, self.most, outcome)


@dataclass(frozen=True, slots=True)
class Band:
    """How far a figure may be from 0, within what it must be shown to be, and where there are rows enough."""

    most: float
    shown: float
    enough: Bools

    @classmethod
    def of(cls, most: float, canary: ArmTable, rules: JudgementRules) -> Band:
        return cls(most, most * rules.pass_margin, canary.rows >= rules.min_rows)


def _recall_bound(rules: JudgementRules) -> Bound:
    return Bound(rules.max_recall_drop, rules.min_frauds)


def _fpr_bound(rules: JudgementRules) -> Bound:
    return Bound(rules.max_fpr_rise, rules.min_legitimate)


def traffic_findings(traffic: TrafficTable, rules: JudgementRules) -> dict[str, Finding]:
    """The checks on what a stage counts while it runs."""
    canary = traffic.canary
    return {
        "traffic": _traffic(canary, rules),
        "scores": _scores(traffic),
        "sample_ratio": sample_ratio(traffic, rules),
        "errors": _share(canary.errors, canary, Prior(rules.max_error_rate, CALLS_STRENGTH), rules),
        "latency": _share(canary.slow, canary, Prior(rules.max_slow_share, CALLS_STRENGTH), rules),
        "alert_rate": alert_rate(traffic, rules),
        "score_distribution": _score_distribution(traffic, rules),
    }


def voided(findings: Mapping[str, Finding]) -> dict[str, Finding]:
    """Comparisons of the arms say nothing where the arms did not get their shares."""
    invalid = findings[INVALIDATING].outcome == FAILED
    return {
        name: replace(one, outcome=np.where(invalid, INSUFFICIENT, one.outcome).astype(np.int8))
        if name in COMPARED
        else one
        for name, one in findings.items()
    }


def paired_findings(paired: PairedTable, rules: JudgementRules) -> dict[str, Finding]:
    """The checks on the mature history, which is drawn once: its intervals are those of a fixed sample."""
    caught = paired.champion_only, paired.candidate_only
    flagged = paired.false_candidate_only, paired.false_champion_only
    return {
        "recall": _paired(*caught, paired.frauds, _recall_bound(rules), rules),
        "fpr": _paired(*flagged, paired.legitimate, _fpr_bound(rules), rules),
    }


def live_findings(recall: LiveTable, fpr: LiveTable, rules: JudgementRules) -> dict[str, Finding]:
    """The checks on what is known of the truth about the stage's own traffic."""
    return {
        "live_recall": _live(recall.control, recall.canary, _recall_bound(rules), rules),
        "live_fpr": _live(fpr.canary, fpr.control, _fpr_bound(rules), rules),
    }


def verdicts(findings: Mapping[str, Finding]) -> Codes:
    """The verdict's code of each stage, [n].

    Any failed check rolls back, except the sample ratio's, which leaves the stage inconclusive. A model is
    promoted if every check has passed; labels of the stage's own traffic are not required, and may stand for
    the paired history's.
    """
    names = [name for name in findings if name != INVALIDATING]
    failed = np.any([findings[name].outcome == FAILED for name in names], axis=0)
    alternatives = {name for pair in EITHER for name in pair}
    needed = [findings[name].outcome == PASSED for name in findings if name not in alternatives]
    for pair in EITHER:
        known = [findings[name].outcome == PASSED for name in pair if name in findings]
        needed.append(np.any(known, axis=0))
    promoted = np.where(np.all(needed, axis=0), PROMOTE, INCONCLUSIVE)
    return np.where(failed, ROLL_BACK, promoted).astype(np.int8)


def _traffic(canary: ArmTable, rules: JudgementRules) -> Finding:
    enough = (canary.rows >= rules.min_rows) & (canary.calls >= rules.min_calls)
    return Finding(
        canary.rows,
        canary.rows,
        canary.rows,
        rules.min_rows,
        np.where(enough, PASSED, INSUFFICIENT).astype(np.int8),
    )


def _scores(traffic: TrafficTable) -> Finding:
    """Whether every row that was scored left its score; rows whose call failed have none."""
    outcomes, shares = [], []
    for arm in (traffic.control, traffic.canary):
        scored = arm.scores.sum(axis=1)
        missing = ((scored == 0) & (arm.calls > arm.errors)) | ((scored < arm.rows) & (arm.errors == 0))
        known = np.where(scored > 0, PASSED, INSUFFICIENT)
        outcomes.append(np.where((arm.rows > 0) & missing, FAILED, known))
        shares.append(scored / np.maximum(arm.rows, 1))
    outcome = np.where(
        np.any(np.array(outcomes) == FAILED, axis=0), FAILED, np.min(np.array(outcomes), axis=0)
    )
    share = np.minimum(*shares)
    return Finding(share, share, share, 1.0, outcome.astype(np.int8))


def sample_ratio(traffic: TrafficTable, rules: JudgementRules) -> Finding:
    """The canary's share of the transactions; those of one card are assigned together and count as one."""
    ratio, planned = rules.sample_ratio, traffic.share
    canary = traffic.canary.rows / ratio.rows_per_card
    rows = canary + traffic.control.rows / ratio.rows_per_card
    side = ratio.false_alarm / 2
    low, high = interval(canary, rows, Prior(planned, RATIO_STRENGTH), side, side)
    wrong = (low > planned * (1 + ratio.tolerance)) | (high < planned * (1 - ratio.tolerance))
    known = np.where(traffic.canary.rows >= rules.min_rows, PASSED, INSUFFICIENT)
    return Finding(_ratio(canary, rows), low, high, ratio.tolerance, _codes(wrong, known == PASSED))


def _share(part: Floats, canary: ArmTable, most: Prior, rules: JudgementRules) -> Finding:
    """A share of the canary's calls that must not exceed a bound, near which it is looked for first."""
    bound = float(most.mean)
    low, high = interval(part, canary.calls, most, rules.check_false_alarm, rules.false_pass)
    value = _ratio(part, canary.calls)
    shown = (value <= bound) & (high < bound * rules.pass_margin)
    return Finding(value, low, high, bound, _codes(low > bound, shown & (canary.calls >= rules.min_calls)))


def alert_rate(traffic: TrafficTable, rules: JudgementRules) -> Finding:
    """The relative change of the flagged share.

    Each flagged transaction is the canary's with a chance that depends on the planned share and on the ratio
    of the two rates alone, so nothing needs to be known of either rate.
    """
    canary, control = traffic.canary, traffic.control
    known = (canary.rows > 0) & (control.rows > 0)
    flagged = np.where(known, canary.flagged, 0.0)
    both = np.where(known, canary.flagged + control.flagged, 0.0)
    share = traffic.share
    value = _ratio(_ratio(canary.flagged, canary.rows), _ratio(control.flagged, control.rows)) - 1

    def change(side: float) -> Ends:
        low, high = interval(flagged, both, Prior(share, ALERTS_STRENGTH), side, side)
        return _relative(low, share), _relative(high, share)

    wide, narrow = change(rules.check_false_alarm / 2), change(rules.false_pass)
    return _within(value, wide, narrow, Band.of(rules.max_alert_rate_change, canary, rules))


def _score_distribution(traffic: TrafficTable, rules: JudgementRules) -> Finding:
    """The distance of Kolmogorov and Smirnov between the histograms, at the edges of the bins."""
    canary, canary_rows = _cumulative(traffic.canary)
    control, control_rows = _cumulative(traffic.control)
    gaps = _ratio(canary, canary_rows) - _ratio(control, control_rows)
    value = np.nan_to_num(np.abs(gaps), nan=0.0).max(axis=1)
    value = np.where((canary_rows > 0).all(axis=1) & (control_rows > 0).all(axis=1), value, np.nan)

    def distance(side: float) -> Ends:
        low, high = interval(canary, canary_rows, JEFFREYS, side, side)
        other_low, other_high = interval(control, control_rows, JEFFREYS, side, side)
        least = np.maximum(low - other_high, other_low - high).max(axis=1)
        most = np.maximum(high - other_low, other_high - low).max(axis=1)
        return np.maximum(least, 0.0), most

    # A false alarm may come from either end of either arm at any edge; a false pass needs one of the two ends
    # that bound the distance where it is largest.
    wide = distance(rules.check_false_alarm / (4 * (SCORE_BINS - 1)))
    narrow = distance(rules.false_pass / 2)
    return _within(value, wide, narrow, Band.of(rules.max_score_distance, traffic.canary, rules))


def _paired(lost: Floats, won: Floats, pairs: Floats, bound: Bound, rules: JudgementRules) -> Finding:
    z = NormalDist().inv_cdf((1 + rules.confidence) / 2)
    low, high = difference_interval(lost, won, pairs, z)
    return bound.hold(_ratio(lost - won, pairs), low, high, pairs)


def _live(better: Rate, worse: Rate, bound: Bound, rules: JudgementRules) -> Finding:
    """How much lower one arm's rate is than the other's, which must not exceed a bound."""
    value = _ratio(better.hits, better.total) - _ratio(worse.hits, worse.total)
    fail, pass_ = rules.check_false_alarm / 2, rules.false_pass / 2
    low, high = interval(better.hits, better.total, JEFFREYS, fail, pass_)
    other_low, other_high = interval(worse.hits, worse.total, JEFFREYS, pass_, fail)
    return bound.hold(value, low - other_high, high - other_low, np.minimum(better.total, worse.total))


def _within(value: Floats, wide: Ends, narrow: Ends, band: Band) -> Finding:
    """A figure that must lie within minus and plus a bound.

    It fails by the wide interval and passes by the narrow one; the one that decided is kept.
    """
    failed = (wide[0] > band.most) | (wide[1] < -band.most)
    shown = (np.abs(value) <= band.most) & (narrow[0] > -band.shown) & (narrow[1] < band.shown)
    low, high = (np.where(failed, *ends) for ends in zip(wide, narrow, strict=True))
    return Finding(value, low, high, band.most, _codes(failed, band.enough & shown))


def _codes(failed: Bools, passed: Bools) -> Codes:
    return np.where(failed, FAILED, np.where(passed, PASSED, INSUFFICIENT)).astype(np.int8)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """NaN where there is no whole."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _relative(canary_share: Floats, planned: Floats) -> Floats:
    """The change of a rate, from the canary's share of what was counted in both arms."""
    with np.errstate(divide="ignore"):
        return canary_share / (1 - canary_share) * (1 - planned) / planned - 1


def _cumulative(arm: ArmTable) -> tuple[Floats, Floats]:
    """Rows below each inner edge, and all rows, both [n, SCORE_BINS - 1]."""
    below = np.cumsum(arm.scores, axis=1)
    return below[:, :-1], np.broadcast_to(below[:, -1:], below[:, :-1].shape)
