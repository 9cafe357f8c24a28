"""What the checks of a release say, in one sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from fraud_core.canary.evidence import Arm, Evidence, RequestCounts, Requests
from fraud_core.canary.findings import REQUEST_METRICS
from fraud_core.canary.request_checks import ERRORS, LATENCY
from fraud_core.canary.rules import JudgementRules

Figure = tuple[float | None, float | None, float | None, float]  # value, low, high, bound

# Of each outcome: how the figure stands to its bound.
_RELATIONS: Final = {
    "passed": "within the bound of {bound}",
    "failed": "beyond the bound of {bound}",
    "insufficient": "not enough to tell whether it keeps the bound of {bound}",
}
_TOLD_IN_FULL: Final = 2  # so many undecided checks are told with their figures, more by their names alone


class Checked(Protocol):
    """What a verdict's sentence is made of."""

    @property
    def name(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def sentence(self) -> str: ...


def check_sentence(name: str, outcome: str, figure: Figure, evidence: Evidence, rules: JudgementRules) -> str:
    """The sentence of one check: its figure, what it rests on, and how it stands to its bound."""
    canary, control = evidence.canary, evidence.control
    if name == "traffic":
        return _traffic(canary, rules)
    if name == "scores":
        return _scores(outcome, control, canary)
    if name == "sample_ratio":
        return _sample_ratio(outcome, figure, evidence, rules)
    if name == REQUEST_METRICS:
        return _request_metrics(outcome, evidence.requests or Requests(), rules)
    subject, basis, signed = _subject(name, evidence, rules)
    if figure[0] is None:
        return f"{subject} is unknown: {basis}."
    value, low, high = (_share(number, signed) for number in figure[:3])
    relation = _RELATIONS[outcome].format(bound=_share(figure[3], ""))
    return f"{subject} is {value} ({low} to {high}; {basis}), {relation}."


def verdict_sentence(verdict: str, checks: Sequence[Checked], evidence: Evidence) -> str:
    """Why the verdict is what it is, in one sentence: the checks that decided it."""
    canary = evidence.canary
    basis = f"over {canary.calls:,} calls and {canary.rows:,} transactions of the canary"
    if verdict == "promote":
        return f"Promote: every check passed, {basis}."
    against = [check for check in checks if check.outcome == "failed"]
    if verdict == "roll_back":
        return f"Roll back: {_clauses(against)}."
    if not canary.rows:
        return "Inconclusive: the canary got no traffic, which is no evidence for it or against it."
    unclear = [check for check in checks if check.outcome == "insufficient"]
    if against or len(unclear) <= _TOLD_IN_FULL:
        return f"Inconclusive: {_clauses(against or unclear)}."
    names = ", ".join(check.name.replace("_", " ") for check in unclear)
    return f"Inconclusive: {basis} there is not enough to tell on {names}."


def _clauses(checks: Sequence[Checked]) -> str:
    """The sentences of checks, as parts of one."""
    return "; ".join(check.sentence[0].lower() + check.sentence[1:].removesuffix(".") for check in checks)


def _traffic(canary: Arm, rules: JudgementRules) -> str:
    if not canary.rows:
        return "The canary got no traffic."
    return (
        f"The canary got {canary.rows:,} transactions in {canary.calls:,} calls; at least {rules.min_rows:,} "
        f"in {rules.min_calls:,} are needed."
    )


def _scores(outcome: str, control: Arm, canary: Arm) -> str:
    stored = (
        f"the canary has {canary.scored:,} scores of {canary.rows:,} transactions in {canary.calls:,} calls, "
        f"the control {control.scored:,} of {control.rows:,} in {control.calls:,}"
    )
    if outcome == "failed":
        return f"Counts are missing without an error: {stored}."
    if outcome == "passed":
        return f"Scores are recorded: {stored}."
    return f"No scores are known yet: {stored}."


def _sample_ratio(outcome: str, figure: Figure, evidence: Evidence, rules: JudgementRules) -> str:
    if figure[0] is None:
        return "Neither arm got any traffic."
    value, low, high = (_planned(number, evidence.share) for number in figure[:3])
    observed = (
        f"The canary got {value} of the transactions ({low} to {high}), planned were {evidence.share:.2%}"
    )
    if outcome == "failed":
        return f"{observed}: the arms cannot be compared."
    if outcome == "passed":
        return f"{observed}."
    return f"{observed}; at least {rules.min_rows:,} transactions of the canary are needed."


def _request_metrics(outcome: str, requests: Requests, rules: JudgementRules) -> str:
    if outcome == "failed":
        silent = [arm for arm in ("control", "canary") if getattr(requests, arm) is None]
        return f"The metrics of the {' and of the '.join(silent)} cannot be read."
    canary, control = requests.canary or RequestCounts(), requests.control or RequestCounts()
    answered = f"Its replica answered {canary.requests:,} scoring requests, the others {control.requests:,}"
    return f"{answered}." if outcome == "passed" else f"{answered}; at least {rules.min_calls:,} are needed."


def _planned(deviation: float | None, planned: float) -> str:
    """A share, from its relative deviation from the planned one."""
    return _share(None if deviation is None else planned * (1 + deviation), "")


def _subject(name: str, evidence: Evidence, rules: JudgementRules) -> tuple[str, str, str]:
    """What is judged, what it rests on, and the format's sign."""
    canary, control = evidence.canary, evidence.control
    if name == "errors":
        return "The error rate", f"{canary.errors:,} of {canary.calls:,} calls", ""
    if name == "latency":
        slower = (
            f"{canary.slow:,} of {canary.calls:,} calls, in the control {control.slow:,} of {control.calls:,}"
        )
        return f"The share of calls over {rules.max_latency_ms:g} ms", slower, ""
    if name in {ERRORS, LATENCY}:
        return _requests(name, evidence.requests or Requests(), rules)
    if name == "alert_rate":
        flagged = (
            f"{canary.flagged:,} of {canary.rows:,} transactions flagged, "
            f"in the control {control.flagged:,} of {control.rows:,}"
        )
        return "The relative change of the alert rate", flagged, "+"
    if name == "score_distribution":
        return (
            "The distance of the distributions of scores",
            f"{canary.scored:,} and {control.scored:,} scores",
            "",
        )
    return _labelled(name, evidence)


def _requests(name: str, requests: Requests, rules: JudgementRules) -> tuple[str, str, str]:
    canary, control = requests.canary or RequestCounts(), requests.control or RequestCounts()
    if name == ERRORS:
        subject, own, other = "The share of requests that its replica failed", canary.failed, control.failed
    else:
        subject = f"The share of requests that its replica took over {rules.max_latency_ms:g} ms for"
        own, other = canary.slow, control.slow
    basis = f"{own:,} of {canary.requests:,}, in the control {other:,} of {control.requests:,}"
    return subject, basis, ""


def _labelled(name: str, evidence: Evidence) -> tuple[str, str, str]:
    paired, live = evidence.paired, evidence.live
    if name == "recall":
        if paired is None:
            return "The drop in recall", "no mature labelled transaction was scored by both models", "+"
        basis = f"of {paired.frauds:,} frauds {paired.champion_only:,} only the champion caught, "
        return "The drop in recall", basis + f"{paired.candidate_only:,} only the candidate", "+"
    if name == "fpr":
        if paired is None:
            return "The rise in FPR", "no mature labelled transaction was scored by both models", "+"
        basis = (
            f"of {paired.legitimate:,} legitimate ones {paired.false_candidate_only:,} only the candidate "
        )
        return "The rise in FPR", basis + f"flagged, {paired.false_champion_only:,} only the champion", "+"
    if live is None:
        raise ValueError(f"There are no live labels for the check {name}.")
    if name == "live_recall":
        basis = f"{live.canary.caught:,} of {live.canary.frauds:,} frauds caught, in the control "
        return "The drop in live recall", basis + f"{live.control.caught:,} of {live.control.frauds:,}", "+"
    basis = (
        f"{live.canary.false_alarms:,} of {live.canary.legitimate:,} legitimate ones flagged, in the control "
    )
    return (
        "The rise in live FPR",
        basis + f"{live.control.false_alarms:,} of {live.control.legitimate:,}",
        "+",
    )


def _share(number: float | None, sign: str) -> str:
    return "without bound" if number is None else f"{number:{sign}.2%}"
