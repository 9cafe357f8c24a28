"""What follows from a verdict: an alert, a trigger of a retraining, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fraud_core.drift.features import Severity

NextStep = Literal["retrain", "alert", "nothing"]


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """What holds a retraining back.

    Attributes:
        cooldown: after the last one that drift triggered.
        labels_after_rejection: new mature labels needed after a model that failed its gate.
    """

    cooldown: timedelta
    labels_after_rejection: int


@dataclass(frozen=True, slots=True)
class TriggerHistory:
    """What happened before.

    Attributes:
        last_trigger: when drift last triggered a retraining, None if never.
        unfinished: whether that trigger is still open, or a run is working on it.
        rejected: whether the last model that was trained failed its gate.
        new_labels: mature labels that this training did not have.
    """

    last_trigger: datetime | None
    unfinished: bool
    rejected: bool
    new_labels: int


@dataclass(frozen=True, slots=True)
class Response:
    """The next step, and in one sentence why there is no retraining where the severity asks for one."""

    step: NextStep
    held_back: str | None = None


def respond(severity: Severity, history: TriggerHistory, rule: ResponseRule, now: datetime) -> Response:
    """Critical and high retrain unless something holds that back; these and medium alert."""
    if severity == "medium":
        return Response("alert")
    if severity not in {"critical", "high"}:
        return Response("nothing")
    reason = _held_back(history, rule, now)
    return Response("retrain") if reason is None else Response("alert", reason)


def _held_back(history: TriggerHistory, rule: ResponseRule, now: datetime) -> str | None:
    if history.last_trigger is not None:
        # A clock that was set back must not hold retrainings back until it has caught up.
        passed = max(now - history.last_trigger, timedelta(0))
        if passed < rule.cooldown:
            state = "is being dealt with" if history.unfinished else "was dealt with"
            return (
                f"No retraining is triggered: the trigger of {history.last_trigger:%Y-%m-%d %H:%M} UTC "
                f"{state}, and {_hours(rule.cooldown)} must pass between two."
            )
    if history.rejected and history.new_labels < rule.labels_after_rejection:
        return (
            "No retraining is triggered: the last model failed its gate, and "
            f"{history.new_labels} labels have become mature since, fewer than {rule.labels_after_rejection}."
        )
    return None


def _hours(period: timedelta) -> str:
    return f"{period / timedelta(hours=1):.4g} h"
