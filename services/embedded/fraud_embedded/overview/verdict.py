"""Whether money is safe right now, in one word and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Level = Literal["safe", "attention", "danger", "unknown"]

STALE_SECONDS: Final = 60  # the scoring DAG runs every ten seconds
BACKLOG: Final = 1000  # records; a scoring run takes on what comes in within minutes
DECIDING_PARTS: Final = ("postgres", "broker", "api")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How things stand, and why."""

    level: Level
    sentence: str


def verdict(
    parts: Mapping[str, bool],
    seconds_since_decision: float | None,
    lag: int | None,
    alerts: Sequence[Mapping[str, Any]],
    quality: Sequence[Mapping[str, Any]],
) -> Verdict:
    """The most serious of what is known; nothing known is not safe.

    Args:
        parts: whether each part of the platform answers, by its name.
        seconds_since_decision: the age of the latest decision; None if there is none.
        lag: records that wait to be scored; None if the broker does not say.
        alerts: the open alerts, the newest first, with `severity` and `title`.
        quality: the latest outcome of each data quality check, with `check` and `status`.
    """
    down = [name for name in DECIDING_PARTS if not parts.get(name, False)]
    if down:
        return Verdict("danger", f"Transactions are not decided: {', '.join(down)} does not answer.")
    if seconds_since_decision is None or lag is None:
        missing = "no transaction was decided yet" if seconds_since_decision is None else "the lag is unknown"
        return Verdict("unknown", f"It cannot be said: {missing}.")
    if lag and seconds_since_decision > STALE_SECONDS:
        age = f"{seconds_since_decision:.0f} s"
        return Verdict("danger", f"{lag:,} transactions wait, and the latest decision is {age} old.")
    if critical := [alert for alert in alerts if alert["severity"] == "critical"]:
        return Verdict("danger", f"A critical alert is open: {critical[0]['title']}")
    if lag > BACKLOG:
        return Verdict("attention", f"{lag:,} transactions wait to be decided.")
    if failed := [check["check"] for check in quality if check["status"] == "failed"]:
        return Verdict("attention", f"Data quality failed: {', '.join(failed)}.")
    if alerts:
        return Verdict("attention", f"An alert is open: {alerts[0]['title']}")
    if others := [name for name, answers in parts.items() if not answers]:
        return Verdict("attention", f"Decisions are made; {', '.join(others)} does not answer.")
    return Verdict("safe", f"Every transaction is decided; {lag:,} wait.")
