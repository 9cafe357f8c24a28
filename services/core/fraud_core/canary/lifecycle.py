"""The states of a release, and which action leads from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a release stands; see `ENDED` for those in which nothing follows."""

    VALIDATING = "validating"
    VALIDATED = "validated"
    SHADOW = "shadow"  # of mode http: scores the traffic in parallel, and decides nothing
    CANARY = "canary"  # a first share of traffic
    WIDENED = "widened"  # a larger one
    PROMOTED = "promoted"
    REFUSED = "refused"  # by the validation
    ROLLED_BACK = "rolled_back"  # on evidence
    WITHDRAWN = "withdrawn"  # without evidence enough, or because nobody drives it
    ABORTED = "aborted"  # by a person


class Mode(StrEnum):
    """Who gives the version its share of the traffic."""

    CANARY = "canary"  # the API itself, by card
    HTTP = "http"  # the gateway, by request: the version is on a replica of the API of its own


class Action(StrEnum):
    """What may be done with a release."""

    VALIDATE = "validate"
    REFUSE = "refuse"
    SHADOW = "shadow"
    START = "start"
    WIDEN = "widen"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    WITHDRAW = "withdraw"
    ABORT = "abort"


ENDED: Final = frozenset({State.PROMOTED, State.REFUSED, State.ROLLED_BACK, State.WITHDRAWN, State.ABORTED})
IN_TRAFFIC: Final = frozenset({State.CANARY, State.WIDENED})
JUDGED: Final = IN_TRAFFIC | {State.SHADOW}  # stages that last a window and end with a verdict
RUNNING: Final = frozenset(State) - ENDED

_STEPS: Final = {
    (State.VALIDATING, Action.VALIDATE): State.VALIDATED,
    (State.VALIDATING, Action.REFUSE): State.REFUSED,
    (State.VALIDATED, Action.START): State.CANARY,
    (State.VALIDATED, Action.SHADOW): State.SHADOW,
    (State.SHADOW, Action.START): State.CANARY,
    (State.CANARY, Action.WIDEN): State.WIDENED,
    (State.WIDENED, Action.PROMOTE): State.PROMOTED,
}
# A release over HTTP is shadowed before it gets traffic, the other kind never.
_STEPS_OF: Final = {
    Mode.CANARY: {step: to for step, to in _STEPS.items() if State.SHADOW not in (step[0], to)},
    Mode.HTTP: {step: to for step, to in _STEPS.items() if step != (State.VALIDATED, Action.START)},
}
_EXITS: Final = {
    Action.ROLL_BACK: State.ROLLED_BACK,
    Action.WITHDRAW: State.WITHDRAWN,
    Action.ABORT: State.ABORTED,
}


class IllegalAction(ValueError):
    """The action is not possible in this state; one sentence."""


def after(state: State, action: Action, mode: Mode = Mode.CANARY) -> State:
    """The state that the action leads to.

    Repeating the action that led to a state changes nothing, and what has ended cannot be ended again: taking
    back a release that was taken back already keeps its state.

    Raises:
        IllegalAction: the action is not possible in this state.
    """
    if action in _EXITS:
        if state in RUNNING:
            return _EXITS[action]
        if state != State.PROMOTED:
            return state
        raise IllegalAction(f"The release is {state}; roll back the champion instead.")
    steps = _STEPS_OF[mode]
    if (state, action) in steps:
        return steps[state, action]
    if any(known == action and reached == state for (_, known), reached in steps.items()):
        return state
    raise IllegalAction(f"{action} is not possible in the state {state}.")


@dataclass(frozen=True, slots=True)
class Stage:
    """A share of traffic that is watched for a while.

    Attributes:
        extensions: how often the window was extended.
    """

    started_at: datetime
    window: timedelta
    extensions: int

    @property
    def ends_at(self) -> datetime:
        return self.started_at + self.window * (1 + self.extensions)

    def longest(self, max_extensions: int) -> datetime:
        """When the stage ends if it is extended as often as it may be."""
        return self.started_at + self.window * (1 + max_extensions)
