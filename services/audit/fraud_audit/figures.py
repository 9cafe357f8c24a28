"""Figures of decisions as people read them: quality, money, coverage, and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from fraud_adapters.postgres.decision_hours import DecisionCounts
from fraud_core.metrics import Confusion
from fraud_core.money import Costs

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Money:
    """What flagging saved and cost.

    Attributes:
        saved: the amounts of frauds that were flagged.
        lost: the amounts of frauds that were not, with a fee each.
        reviews: the cost of reviewing what was flagged.
    """

    saved: float
    lost: float
    reviews: float

    @property
    def net(self) -> float:
        return self.saved - self.reviews


@dataclass(frozen=True, slots=True)
class Quality:
    """The figures of one period."""

    counts: DecisionCounts
    confusion: Confusion
    money: Money

    @property
    def coverage(self) -> float | None:
        """The share of decisions whose truth is known."""
        return self.counts.labelled / self.counts.decided if self.counts.decided else None

    @property
    def reported(self) -> int:
        """How many of the known truths somebody reported."""
        return self.counts.labelled - self.counts.implied

    @property
    def flagged_share(self) -> float | None:
        return self.counts.flagged / self.counts.decided if self.counts.decided else None

    @property
    def recall_interval(self) -> tuple[float, float] | None:
        return interval(self.counts.tp, self.counts.tp + self.counts.fn)

    @property
    def precision_interval(self) -> tuple[float, float] | None:
        return interval(self.counts.tp, self.counts.tp + self.counts.fp)


def quality(counts: DecisionCounts, costs: Costs) -> Quality:
    confusion = Confusion(counts.tp, counts.fp, counts.tn, counts.fn)
    money = Money(
        saved=counts.tp_amount,
        lost=counts.fn_amount + counts.fn * costs.missed_fraud_fee,
        reviews=counts.flagged * costs.review,
    )
    return Quality(counts, confusion, money)


def interval(successes: int, trials: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval of a proportion (1927); None without trials."""
    if trials == 0:
        return None
    share, square = successes / trials, _Z95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = _Z95 / (1 + square / trials) * sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    # Rounding must not exclude the share itself.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
