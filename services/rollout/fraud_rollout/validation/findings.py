"""A check's outcome, and what all outcomes come to."""

from __future__ import annotations

from collections.abc import Sequence

from config.job_results.rollout import FindingResult


def passed(name: str, sentence: str, **figures: float | None) -> FindingResult:
    """The check found nothing against the version."""
    return {"name": name, "outcome": "passed", "sentence": sentence, **figures}  # type: ignore[typeddict-item]


def failed(name: str, sentence: str, **figures: float | None) -> FindingResult:
    """The version must not have traffic."""
    return {"name": name, "outcome": "failed", "sentence": sentence, **figures}  # type: ignore[typeddict-item]


def insufficient(name: str, sentence: str, **figures: float | None) -> FindingResult:
    """The check could not judge, which is not held against the version."""
    return {"name": name, "outcome": "insufficient", "sentence": sentence, **figures}  # type: ignore[typeddict-item]


def bounded(name: str, sentence: str, value: float, bound: float) -> FindingResult:
    """Passed where the value is at most the bound."""
    outcome = passed if value <= bound else failed
    return outcome(name, sentence, value=value, bound=bound)


def refuses(findings: Sequence[FindingResult]) -> bool:
    """Whether one of them refuses the version."""
    return any(finding["outcome"] == "failed" for finding in findings)


def reason_of(findings: Sequence[FindingResult]) -> str:
    """What they come to, in one sentence or one for each failure."""
    wrong = [finding["sentence"] for finding in findings if finding["outcome"] == "failed"]
    if wrong:
        return " ".join(wrong)
    unknown = [finding["name"] for finding in findings if finding["outcome"] == "insufficient"]
    rest = f"; not judged: {', '.join(unknown)}" if unknown else ""
    return f"All {len(findings) - len(unknown)} checks passed{rest}."
