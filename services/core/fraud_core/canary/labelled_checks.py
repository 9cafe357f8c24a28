"""The checks on labelled transactions, over the arrays of n stages: recall and FPR."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fraud_core.canary.findings import Finding, outcomes, ratio
from fraud_core.canary.paired import difference_interval
from fraud_core.canary.rules import JudgementRules
from fraud_core.canary.sequential import JEFFREYS, interval
from fraud_core.canary.tables import Floats, LiveTable, PairedTable, Rate


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a difference may be, and the samples before it is judged at all."""

    most: float
    minimum: int

    @classmethod
    def of_recall(cls, rules: JudgementRules) -> Bound:
        return cls(rules.max_recall_drop, rules.min_frauds)

    @classmethod
    def of_fpr(cls, rules: JudgementRules) -> Bound:
        return cls(rules.max_fpr_rise, rules.min_legitimate)

    def hold(self, value: Floats, low: Floats, high: Floats, samples: Floats) -> Finding:
        """Whether all of a difference's interval lies beyond the bound, or within it."""
        enough = samples >= self.minimum
        failed, passed = enough & (low > self.most), enough & (high < self.most)
        return Finding(value, low, high, self.most, outcomes(failed, passed))


def paired_findings(paired: PairedTable, rules: JudgementRules) -> dict[str, Finding]:
    """The checks on the mature history, which is drawn once: its intervals are those of a fixed sample."""
    caught = paired.champion_only, paired.candidate_only
    flagged = paired.false_candidate_only, paired.false_champion_only
    return {
        "recall": _paired(*caught, paired.frauds, Bound.of_recall(rules), rules),
        "fpr": _paired(*flagged, paired.legitimate, Bound.of_fpr(rules), rules),
    }


def live_findings(recall: LiveTable, fpr: LiveTable, rules: JudgementRules) -> dict[str, Finding]:
    """The checks on what is known of the truth about the stage's own traffic."""
    return {
        "live_recall": _live(recall.control, recall.canary, Bound.of_recall(rules), rules),
        "live_fpr": _live(fpr.canary, fpr.control, Bound.of_fpr(rules), rules),
    }


def _paired(lost: Floats, won: Floats, pairs: Floats, bound: Bound, rules: JudgementRules) -> Finding:
    z = NormalDist().inv_cdf((1 + rules.confidence) / 2)
    low, high = difference_interval(lost, won, pairs, z)
    return bound.hold(ratio(lost - won, pairs), low, high, pairs)


def _live(better: Rate, worse: Rate, bound: Bound, rules: JudgementRules) -> Finding:
    """How much lower one arm's rate is than the other's, which must not exceed a bound."""
    value = ratio(better.hits, better.total) - ratio(worse.hits, worse.total)
    fail, pass_ = rules.check_false_alarm / 2, rules.false_pass / 2
    low, high = interval(better.hits, better.total, JEFFREYS, fail, pass_)
    other_low, other_high = interval(worse.hits, worse.total, JEFFREYS, pass_, fail)
    return bound.hold(value, low - other_high, high - other_low, np.minimum(better.total, worse.total))
