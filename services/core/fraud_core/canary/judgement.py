"""The verdict on a release, from the numbers of one stage: promote, roll back, or inconclusive.

`judge` may be asked at any time and as often as one likes: what is counted while a stage runs is judged by
intervals that hold at all looks at once (`sequential.interval`). docs/releases-judgement.md says what each
check does, and how often the verdicts are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from fraud_core.canary import findings as found
from fraud_core.canary.evidence import Evidence
from fraud_core.canary.findings import Finding
from fraud_core.canary.labelled_checks import live_findings, paired_findings
from fraud_core.canary.request_checks import request_findings
from fraud_core.canary.rules import JudgementRules
from fraud_core.canary.sentences import check_sentence, verdict_sentence
from fraud_core.canary.tables import LiveTable, PairedTable, TrafficTable
from fraud_core.canary.traffic_checks import traffic_findings


class Verdict(StrEnum):
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    INCONCLUSIVE = "inconclusive"


class Outcome(StrEnum):
    """`insufficient`: too few samples to say whether the bound is kept."""

    PASSED = "passed"
    FAILED = "failed"
    INSUFFICIENT = "insufficient"


_VERDICTS = {
    found.INCONCLUSIVE: Verdict.INCONCLUSIVE,
    found.PROMOTE: Verdict.PROMOTE,
    found.ROLL_BACK: Verdict.ROLL_BACK,
}
_OUTCOMES = {
    found.INSUFFICIENT: Outcome.INSUFFICIENT,
    found.PASSED: Outcome.PASSED,
    found.FAILED: Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its figure, its interval and the bound; None where nothing was counted."""

    name: str
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    bound: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, the checks that it rests on, and why, in one sentence."""

    verdict: Verdict
    checks: tuple[Check, ...]
    sentence: str

    def to_mapping(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def judge(evidence: Evidence, rules: JudgementRules) -> Judgement:
    """Judge a stage by everything that was counted since it began.

    Args:
        evidence: cumulative counts of the stage, and the labelled history.
        rules: bounds, and how sure a verdict must be.
    """
    findings = find(evidence, rules)
    verdict = _VERDICTS[int(found.verdicts(findings)[0])]
    checks = tuple(_check(name, finding, evidence, rules) for name, finding in findings.items())
    return Judgement(verdict, checks, verdict_sentence(verdict, checks, evidence))


def find(evidence: Evidence, rules: JudgementRules) -> Mapping[str, Finding]:
    """All checks of one stage, as arrays of length 1."""
    findings = traffic_findings(TrafficTable.of([evidence]), rules)
    findings |= paired_findings(PairedTable.of([evidence.paired]), rules)
    if evidence.live is not None:
        live = LiveTable.of_recall([evidence.live]), LiveTable.of_fpr([evidence.live])
        findings |= live_findings(*live, rules)
    if evidence.requests is not None:
        findings |= request_findings(evidence.requests, rules)
    return found.voided(findings)


def _check(name: str, finding: Finding, evidence: Evidence, rules: JudgementRules) -> Check:
    outcome = _OUTCOMES[int(finding.outcome[0])]
    value, low, high = (_number(array[0]) for array in (finding.value, finding.low, finding.high))
    sentence = check_sentence(name, outcome, (value, low, high, finding.bound), evidence, rules)
    return Check(name, outcome, value, low, high, finding.bound, sentence)


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
