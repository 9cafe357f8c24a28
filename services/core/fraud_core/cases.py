"""What may be done with a case, by whom, and what becomes of it: a pure state machine.

A case is open, assigned to a person, or closed with a decision. `change` says what an action makes of a case;
who stores it does so in one database transaction with the row locked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from fraud_core.people import PersonRole


class CaseState(StrEnum):
    OPEN = "open"
    ASSIGNED = "assigned"
    CLOSED = "closed"


class Origin(StrEnum):
    """Why there is a case: the decision was review or block, it was drawn at random among approved
    transactions, reports about it contradict each other, or a person asked for it."""

    FLAGGED = "flagged"
    SAMPLED = "sampled"
    DISPUTED = "disputed"
    OPENED = "opened"


class Action(StrEnum):
    TAKE = "take"
    RELEASE = "release"
    SKIP = "skip"
    HAND_OVER = "hand_over"
    ESCALATE = "escalate"
    LABEL = "label"
    UNDO = "undo"
    NOTE = "note"
    REOPEN = "reopen"


# The kind of the event that an action leaves behind.
EVENTS: Final = {
    Action.TAKE: "taken",
    Action.RELEASE: "released",
    Action.SKIP: "skipped",
    Action.HAND_OVER: "handed_over",
    Action.ESCALATE: "escalated",
    Action.LABEL: "labelled",
    Action.UNDO: "undone",
    Action.NOTE: "noted",
    Action.REOPEN: "reopened",
}


class ActionRefused(Exception):
    """The case does not allow the action; the message is a sentence for the person who tried."""


class CaseRules(BaseModel):
    """How cases are worked on.

    Attributes:
        lock: a case that was taken is open again after this time.
        skip: a skipped case is not offered to the same person for this time.
        undo: so long after its label a case can be taken back by its decider with one key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lock: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0))
    skip: timedelta = Field(default=timedelta(hours=4), ge=timedelta(0))
    undo: timedelta = Field(default=timedelta(seconds=30), ge=timedelta(0))


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts."""

    username: str
    role: PersonRole


@dataclass(frozen=True, slots=True)
class CaseStatus:
    """The part of a case that actions depend on and change.

    Attributes:
        locked_until: when an assigned case is open again; None while it is held until it is handed over.
        decision: 1 fraud, 0 legitimate; of a closed case.
    """

    state: CaseState
    origin: Origin = Origin.FLAGGED
    assignee: str | None = None
    locked_until: datetime | None = None
    escalated: bool = False
    decision: int | None = None
    decided_by: str | None = None
    closed_at: datetime | None = None

    def holder(self, now: datetime) -> str | None:
        """To whom it is assigned, unless the lock was left behind."""
        if self.state is not CaseState.ASSIGNED:
            return None
        expired = self.locked_until is not None and self.locked_until <= now
        return None if expired else self.assignee

    @property
    def needs_lead(self) -> bool:
        return self.escalated or self.origin is Origin.DISPUTED


def label_source(origin: Origin) -> str:
    """The source of a label in the ledger, by why there is a case.

    A random sample is a source of its own, because only its labels tell how much is missed.
    """
    return {Origin.SAMPLED: "random_audit", Origin.DISPUTED: "adjudication"}.get(origin, "analyst")


def change(
    case: CaseStatus,
    action: Action,
    person: Person,
    now: datetime,
    rules: CaseRules,
    *,
    label: int | None = None,
    to: str | None = None,
) -> CaseStatus:
    """What an action makes of a case.

    Args:
        label: of the action `label`, 1 is fraud.
        to: of the action `hand_over`, to whom.

    Raises:
        ActionRefused: the case or the person's role does not allow it.
    """
    if action is Action.NOTE:
        return case
    if case.state is CaseState.CLOSED:
        return _change_closed(case, action, person, now, rules)
    if action in {Action.UNDO, Action.REOPEN}:
        raise ActionRefused("This case is not closed.")
    _require_access(case, action, person, now)
    if action is Action.TAKE:
        return _assigned(case, person.username, now + rules.lock)
    if action is Action.HAND_OVER:
        if not to or to == case.holder(now):
            raise ActionRefused("Name another person to hand the case over to.")
        return _assigned(case, to, None)
    if action is Action.ESCALATE:
        if case.escalated:
            raise ActionRefused("This case is escalated already.")
        return replace(_opened(case), escalated=True)
    if action is Action.LABEL:
        return _closed(case, person, now, label)
    return _opened(case)


def _change_closed(
    case: CaseStatus, action: Action, person: Person, now: datetime, rules: CaseRules
) -> CaseStatus:
    own = case.decided_by == person.username
    if action is Action.UNDO:
        if not own:
            raise ActionRefused(f"Only {case.decided_by} can undo this decision; reopen the case instead.")
        if case.closed_at is None or now - case.closed_at > rules.undo:
            raise ActionRefused("It is too late to undo this decision; reopen the case instead.")
        return _assigned(_opened(case), person.username, now + rules.lock)
    if action is Action.REOPEN:
        if not own and not person.role.leads:
            raise ActionRefused(f"Only {case.decided_by}, a lead or an admin can reopen this case.")
        return _opened(case)
    decided = "fraud" if case.decision else "legitimate"
    raise ActionRefused(f"{case.decided_by} has closed this case as {decided}; reopen it first.")


def _require_access(case: CaseStatus, action: Action, person: Person, now: datetime) -> None:
    holder = case.holder(now)
    is_own = holder == person.username
    if case.needs_lead and not person.role.leads and not is_own:
        raise ActionRefused("A lead decides this case: it was escalated or is disputed.")
    if holder is None:
        if action in {Action.RELEASE, Action.SKIP}:
            raise ActionRefused("This case is not assigned to you any more.")
        return
    # A lead may take a case from somebody who is away, but decides only what is assigned to nobody else.
    may_move = person.role.leads and action in {Action.HAND_OVER, Action.RELEASE}
    if not is_own and not may_move:
        raise ActionRefused(f"{holder} is working on this case.")


def _assigned(case: CaseStatus, assignee: str, until: datetime | None) -> CaseStatus:
    return replace(case, state=CaseState.ASSIGNED, assignee=assignee, locked_until=until)


def _opened(case: CaseStatus) -> CaseStatus:
    return replace(
        case,
        state=CaseState.OPEN,
        assignee=None,
        locked_until=None,
        decision=None,
        decided_by=None,
        closed_at=None,
    )


def _closed(case: CaseStatus, person: Person, now: datetime, label: int | None) -> CaseStatus:
    if label not in {0, 1}:
        raise ActionRefused("A label is fraud or legitimate.")
    return replace(
        case,
        state=CaseState.CLOSED,
        assignee=person.username,
        locked_until=None,
        escalated=False,
        decision=label,
        decided_by=person.username,
        closed_at=now,
    )
