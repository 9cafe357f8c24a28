"""What a run's checks come to: whether people are alerted, and with which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fraud_core.quality.checks import Check, Status, plural

AlertSeverity = Literal["none", "medium", "high"]


@dataclass(frozen=True, slots=True)
class QualityAlert:
    """The alert of a run; with severity `none` nobody is alerted."""

    severity: AlertSeverity
    title: str
    text: str


def alert_of(checks: Sequence[Check], blind: Mapping[str, int], max_blind: int) -> QualityAlert:
    """The alert of a run's checks.

    Args:
        blind: by check, for how many runs in a row including this one it had no verdict.
        max_blind: from so many on, having no verdict is itself alerted.
    """
    failed = [check for check in checks if check.failed]
    unjudged = [
        check
        for check in checks
        if check.status is Status.INSUFFICIENT
        and not check.expected
        and blind.get(check.name, 0) >= max_blind
    ]
    if not failed and not unjudged:
        return QualityAlert("none", "Data quality is as it should be", _summary(checks))
    high = any(check.severity == "high" for check in failed)
    # The worst first: a reader may see no more than the beginning.
    ordered = sorted(failed, key=lambda check: check.severity != "high")
    lines = [f"{check.name} ({check.severity}): {check.sentence}" for check in ordered]
    lines += [
        f"{check.name}: no verdict for {plural(blind[check.name], 'run')} in a row. {check.sentence}"
        for check in unjudged
    ]
    named = ", ".join(check.name for check in (*ordered, *unjudged))
    return QualityAlert("high" if high else "medium", f"Data quality: {named}", "\n".join(lines))


def _summary(checks: Sequence[Check]) -> str:
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) + "."
