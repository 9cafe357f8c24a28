"""What a random sample of approved transactions says about the frauds that were missed. Needs `statistics`.

Recall on all traffic is F / (F + K + M): F frauds among what was flagged, K frauds among what was approved
that somebody reported anyway, and M frauds that nobody would know of without the sample. F and K are counted;
M is estimated from the reviewed part of the sample, whose transactions were drawn with known chances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy.special import betaincinv

_EVERYTHING: Final = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A sampled transaction that was reviewed.

    Attributes:
        share: the chance with which it was drawn, above 0 and at most 1.
        missed: it is a fraud that nobody but its reviewer has reported.
    """

    share: float
    missed: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; if nothing is known, `value` is None and the interval all there can be."""

    value: float | None
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was decided in a window, and what is known of it.

    Attributes:
        approved: transactions that were not flagged.
        flagged_frauds: F, of those flagged.
        reported_frauds: K, of those approved, known without the sample.
        reviewed: the sampled transactions that were reviewed.
    """

    approved: int
    flagged_frauds: int
    reported_frauds: int
    reviewed: Sequence[Reviewed]


def missed_share(reviewed: Sequence[Reviewed], confidence: float) -> Estimate:
    """The share of the approved transactions that are frauds nobody has reported.

    Each reviewed transaction weighs the inverse of its chance to be drawn (Horvitz and Thompson 1952), over
    the sum of the weights (Hájek 1971), so that what is not reviewed yet does not count as legitimate. The
    interval is Clopper and Pearson's at the effective number of transactions, (Σw)² / Σw² (Kish 1965), as
    Korn and Graubard (Survey Methodology 24, 1998) propose for few positives; with equal chances it is the
    exact one.
    """
    if not reviewed:
        return Estimate(None, *_EVERYTHING, 0)
    weights = [1 / one.share for one in reviewed]
    total = math.fsum(weights)
    share = math.fsum(weight for weight, one in zip(weights, reviewed, strict=True) if one.missed) / total
    trials = total * total / math.fsum(weight * weight for weight in weights)
    low, high = _interval(share * trials, trials, confidence)
    return Estimate(share, low, high, len(reviewed))


def missed_frauds(traffic: Traffic, confidence: float) -> Estimate:
    """M: how many approved transactions are frauds that nobody has reported."""
    share = missed_share(traffic.reviewed, confidence)
    value = None if share.value is None else share.value * traffic.approved
    return Estimate(value, share.low * traffic.approved, share.high * traffic.approved, share.rows)


def recall_on_all_traffic(traffic: Traffic, confidence: float) -> Estimate:
    """F / (F + K + M); its interval comes from M's alone, because F and K are counted.

    It is unknown while no fraud is known or found.
    """
    missed = missed_frauds(traffic, confidence)
    known = traffic.flagged_frauds + traffic.reported_frauds

    def recall(missed_now: float) -> float | None:
        frauds = known + missed_now
        return traffic.flagged_frauds / frauds if frauds else None

    low, high = recall(missed.high), recall(missed.low)
    return Estimate(
        None if missed.value is None else recall(missed.value),
        0.0 if low is None else low,
        1.0 if high is None else high,
        missed.rows,
    )


def _interval(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's interval for numbers that need not be whole."""
    tail = (1 - confidence) / 2
    # Rounding may leave a trace of a success, or take one from the last.
    successes = min(max(successes, 0.0), trials)
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes > 1e-9 else 0.0
    high = (
        float(betaincinv(successes + 1, trials - successes, 1 - tail)) if trials - successes > 1e-9 else 1.0
    )
    return low, high
