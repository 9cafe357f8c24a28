"""What may be done with a case, by whom: every action in every state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core.cases import (
    Action,
    ActionRefused,
    CaseRules,
    CaseState,
    CaseStatus,
    Origin,
    Person,
    change,
    label_source,
)
from fraud_core.people import PersonRole

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = CaseRules()
ANA, BEN = Person("ana", PersonRole.ANALYST), Person("ben", PersonRole.ANALYST)
LEA = Person("lea", PersonRole.LEAD)
OPEN = CaseStatus(CaseState.OPEN)
ANAS = CaseStatus(CaseState.ASSIGNED, assignee="ana", locked_until=NOW + timedelta(minutes=5))
LEFT = replace(ANAS, locked_until=NOW)
CLOSED = CaseStatus(CaseState.CLOSED, assignee="ana", decision=1, decided_by="ana", closed_at=NOW)
ESCALATED = replace(OPEN, escalated=True)
DISPUTED = replace(OPEN, origin=Origin.DISPUTED)


def act(case: CaseStatus, action: Action, person: Person, at: datetime = NOW) -> CaseStatus:
    return change(case, action, person, at, RULES, label=1, to="ben")


def test_a_case_is_taken_decided_and_taken_back() -> None:
    taken = act(OPEN, Action.TAKE, ANA)
    assert (taken.state, taken.assignee, taken.locked_until) == ("assigned", "ana", NOW + RULES.lock)
    closed = act(taken, Action.LABEL, ANA)
    assert (closed.state, closed.decision, closed.decided_by, closed.closed_at) == ("closed", 1, "ana", NOW)
    undone = act(closed, Action.UNDO, ANA)
    assert (undone.state, undone.assignee, undone.decision, undone.closed_at) == (
        "assigned",
        "ana",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("case", "action", "person", "state", "assignee"),
    [
        (ANAS, Action.RELEASE, ANA, "open", None),
        (ANAS, Action.RELEASE, LEA, "open", None),
        (ANAS, Action.SKIP, ANA, "open", None),
        (ANAS, Action.HAND_OVER, ANA, "assigned", "ben"),
        (ANAS, Action.HAND_OVER, LEA, "assigned", "ben"),
        (ANAS, Action.ESCALATE, ANA, "open", None),
        (LEFT, Action.TAKE, BEN, "assigned", "ben"),
        (LEFT, Action.LABEL, BEN, "closed", "ben"),
        (OPEN, Action.LABEL, ANA, "closed", "ana"),
        (OPEN, Action.ESCALATE, ANA, "open", None),
        (ESCALATED, Action.TAKE, LEA, "assigned", "lea"),
        (ESCALATED, Action.HAND_OVER, LEA, "assigned", "ben"),
        (CLOSED, Action.REOPEN, ANA, "open", None),
        (CLOSED, Action.REOPEN, LEA, "open", None),
    ],
)
def test_what_an_action_makes_of_a_case(
    case: CaseStatus, action: Action, person: Person, state: str, assignee: str | None
) -> None:
    after = act(case, action, person)
    assert (after.state, after.assignee) == (state, assignee)


@pytest.mark.parametrize(
    ("case", "action", "person", "sentence"),
    [
        (ANAS, Action.TAKE, BEN, "ana is working on this case."),
        (ANAS, Action.LABEL, BEN, "ana is working on this case."),
        (ANAS, Action.LABEL, LEA, "ana is working on this case."),
        (ANAS, Action.SKIP, BEN, "ana is working on this case."),
        (LEFT, Action.SKIP, ANA, "This case is not assigned to you any more."),
        (ESCALATED, Action.TAKE, ANA, "A lead decides this case: it was escalated or is disputed."),
        (ESCALATED, Action.ESCALATE, LEA, "This case is escalated already."),
        (DISPUTED, Action.LABEL, ANA, "A lead decides this case: it was escalated or is disputed."),
        (CLOSED, Action.LABEL, BEN, "ana has closed this case as fraud; reopen it first."),
        (CLOSED, Action.UNDO, BEN, "Only ana can undo this decision; reopen the case instead."),
        (CLOSED, Action.REOPEN, BEN, "Only ana, a lead or an admin can reopen this case."),
        (OPEN, Action.UNDO, ANA, "This case is not closed."),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(case: CaseStatus, action: Action, person: Person, sentence: str) -> None:
    with pytest.raises(ActionRefused) as refused:
        act(case, action, person)
    assert str(refused.value) == sentence


def test_a_decision_can_be_undone_for_a_while_only() -> None:
    act(CLOSED, Action.UNDO, ANA, NOW + RULES.undo)
    with pytest.raises(ActionRefused, match="too late"):
        act(CLOSED, Action.UNDO, ANA, NOW + RULES.undo + timedelta(seconds=1))


def test_a_case_that_was_handed_over_is_held_until_it_is_worked_on() -> None:
    held = act(ESCALATED, Action.HAND_OVER, LEA)
    assert held.holder(NOW + timedelta(days=90)) == "ben"
    # Whom a lead chose may decide it, although it was escalated.
    assert act(held, Action.LABEL, BEN).state == CaseState.CLOSED


@pytest.mark.parametrize("label", [None, 2])
def test_a_label_is_fraud_or_legitimate(label: int | None) -> None:
    with pytest.raises(ActionRefused, match="fraud or legitimate"):
        change(OPEN, Action.LABEL, ANA, NOW, RULES, label=label)


def test_the_label_of_a_random_check_has_a_source_of_its_own() -> None:
    assert [label_source(origin) for origin in Origin] == [
        "analyst",
        "random_audit",
        "adjudication",
        "analyst",
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Action)), st.sampled_from([ANA, BEN, LEA]), st.integers(0, 1200)),
        max_size=30,
    )
)
def test_whatever_is_done_the_case_stays_consistent(steps: list[tuple[Action, Person, int]]) -> None:
    """What the constraints of the table demand, and that nobody takes a case from whoever works on it."""
    case, now = OPEN, NOW
    for action, person, seconds in steps:
        now += timedelta(seconds=seconds)
        holder = case.holder(now)
        try:
            after = change(case, action, person, now, RULES, label=1, to="ben")
        except ActionRefused:
            continue
        assert (
            (after.state is CaseState.CLOSED) == (after.closed_at is not None) == (after.decision is not None)
        )
        assert after.state is not CaseState.ASSIGNED or after.assignee is not None
        if holder not in {None, person.username} and action is not Action.NOTE:
            assert person.role.leads
            assert after.state is not CaseState.CLOSED
        case = after
