"""The checks on what is counted while a stage runs, over the arrays of n stages."""

from __future__ import annotations

from typing import Final

import numpy as np

from fraud_core.canary.evidence import SCORE_BINS
from fraud_core.canary.findings import FAILED, PASSED, Bools, Finding, outcomes, ratio
from fraud_core.canary.rules import JudgementRules
from fraud_core.canary.sequential import JEFFREYS, Prior, interval
from fraud_core.canary.tables import ArmTable, Floats, TrafficTable

# How strongly an interval expects proportions near its prior's mean. Chosen for few samples at the rates that
# occur (docs/releases-judgement.md), and without influence on the chance of a false alarm.
CALLS_STRENGTH: Final = 20.0
ALERTS_STRENGTH: Final = 50.0
RATIO_STRENGTH: Final = 200.0


def traffic_findings(traffic: TrafficTable, rules: JudgementRules) -> dict[str, Finding]:
    """All checks that need no labels."""
    canary = traffic.canary
    return {
        "traffic": _traffic(canary, rules),
        "scores": _scores(traffic),
        "sample_ratio": sample_ratio(traffic, rules),
        "errors": share_of_calls(canary.errors, canary.calls, rules.max_error_rate, rules),
        "latency": share_of_calls(canary.slow, canary.calls, rules.max_slow_share, rules),
        "alert_rate": alert_rate(traffic, rules),
        "score_distribution": _score_distribution(traffic, rules),
    }


def sample_ratio(traffic: TrafficTable, rules: JudgementRules) -> Finding:
    """The relative deviation of the canary's share of the transactions from the planned one.

    Transactions of one card are assigned together, and count as one.
    """
    allowed, planned = rules.sample_ratio, traffic.share
    canary = traffic.canary.rows / allowed.rows_per_card
    rows = canary + traffic.control.rows / allowed.rows_per_card
    side = allowed.false_alarm / 2
    low, high = interval(canary, rows, Prior(planned, RATIO_STRENGTH), side, side)
    value, low, high = (share / planned - 1 for share in (ratio(canary, rows), low, high))
    wrong = (low > allowed.tolerance) | (high < -allowed.tolerance)
    enough = traffic.canary.rows >= rules.min_rows
    return Finding(value, low, high, allowed.tolerance, outcomes(wrong, enough))


def alert_rate(traffic: TrafficTable, rules: JudgementRules) -> Finding:
    """The relative change of the flagged share.

    Each flagged transaction is the canary's with a chance that depends on the planned share and on the ratio
    of the two rates alone, so nothing needs to be known of either rate.
    """
    canary, control, share = traffic.canary, traffic.control, traffic.share
    most = rules.max_alert_rate_change
    known = (canary.rows > 0) & (control.rows > 0)
    flagged = np.where(known, canary.flagged, 0.0)
    both = np.where(known, canary.flagged + control.flagged, 0.0)
    value = _relative(ratio(flagged, both), share)
    beyond = np.abs(value) > most
    side = np.where(beyond, rules.check_false_alarm / 2, rules.false_pass)
    low, high = interval(flagged, both, Prior(share, ALERTS_STRENGTH), side, side)
    low, high = _relative(low, share), _relative(high, share)
    shown = _shown(-low, most, rules) & _shown(high, most, rules) & (canary.rows >= rules.min_rows)
    failed = beyond & ((low > most) | (high < -most))
    return Finding(value, low, high, most, outcomes(failed, ~beyond & known & shown))


def _traffic(canary: ArmTable, rules: JudgementRules) -> Finding:
    enough = (canary.rows >= rules.min_rows) & (canary.calls >= rules.min_calls)
    return Finding(
        canary.rows, canary.rows, canary.rows, rules.min_rows, outcomes(np.zeros_like(enough), enough)
    )


def _scores(traffic: TrafficTable) -> Finding:
    """Whether every row has a call and, unless calls failed, its score."""
    codes, shares = [], []
    for arm in (traffic.control, traffic.canary):
        scored = arm.scores.sum(axis=1)
        unscored = ((scored == 0) & (arm.calls > arm.errors)) | ((scored < arm.rows) & (arm.errors == 0))
        missing = unscored | (arm.calls == 0)
        codes.append(outcomes((arm.rows > 0) & missing, scored > 0))
        shares.append(ratio(scored, arm.rows))
    failed = np.any(np.array(codes) == FAILED, axis=0)
    share = np.fmin(*shares)
    return Finding(share, share, share, 1.0, outcomes(failed, np.all(np.array(codes) == PASSED, axis=0)))


def share_of_calls(part: Floats, calls: Floats, most: float, rules: JudgementRules) -> Finding:
    """A share of the canary's calls that must not exceed a bound, near which it is looked for first."""
    value = ratio(part, calls)
    prior = Prior(most, CALLS_STRENGTH)
    low, high = interval(part, calls, prior, rules.check_false_alarm, rules.false_pass)
    passed = (value <= most) & _shown(high, most, rules) & (calls >= rules.min_calls)
    return Finding(value, low, high, most, outcomes(low > most, passed))


def _score_distribution(traffic: TrafficTable, rules: JudgementRules) -> Finding:
    """The distance of Kolmogorov and Smirnov between the histograms, at the edges of the bins.

    A false alarm may come from either end of either arm at any edge; a false pass needs one of the two ends
    that bound the distance where it is largest.
    """
    canary, canary_rows = _cumulative(traffic.canary)
    control, control_rows = _cumulative(traffic.control)
    most = rules.max_score_distance
    value = np.abs(ratio(canary, canary_rows) - ratio(control, control_rows)).max(axis=1)
    beyond = value > most
    side = np.where(beyond, rules.check_false_alarm / (4 * (SCORE_BINS - 1)), rules.false_pass / 2)[:, None]
    low, high = interval(canary, canary_rows, JEFFREYS, side, side)
    other_low, other_high = interval(control, control_rows, JEFFREYS, side, side)
    least = np.maximum(np.maximum(low - other_high, other_low - high).max(axis=1), 0.0)
    largest = np.maximum(high - other_low, other_high - low).max(axis=1)
    enough = traffic.canary.rows >= rules.min_rows
    passed = (value <= most) & _shown(largest, most, rules) & enough
    return Finding(value, least, largest, most, outcomes(beyond & (least > most), passed))


def _shown(end: Floats, most: float, rules: JudgementRules) -> Bools:
    """Whether the far end of an interval lies as near to the bound as is asked for."""
    return end < most * rules.pass_margin


def _relative(canary_share: Floats, planned: Floats) -> Floats:
    """The change of a rate, from the canary's share of what was counted in both arms."""
    with np.errstate(divide="ignore"):
        return canary_share / (1 - canary_share) * (1 - planned) / planned - 1


def _cumulative(arm: ArmTable) -> tuple[Floats, Floats]:
    """Rows below each inner edge, and all rows, both [n, SCORE_BINS - 1]."""
    below = np.cumsum(arm.scores, axis=1)
    return below[:, :-1], np.broadcast_to(below[:, -1:], below[:, :-1].shape)
