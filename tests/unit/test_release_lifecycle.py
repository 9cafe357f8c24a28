"""The states of a release, and who is served by its canary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_core.canary.assignment import in_canary, positions
from fraud_core.canary.lifecycle import (
    ENDED,
    IN_TRAFFIC,
    RUNNING,
    Action,
    IllegalAction,
    Mode,
    Stage,
    State,
    after,
)

WAY = (Action.VALIDATE, Action.START, Action.WIDEN, Action.PROMOTE)
EXITS = (Action.ROLL_BACK, Action.WITHDRAW, Action.ABORT)


def test_the_way_to_a_champion_leads_through_every_stage() -> None:
    state, seen = State.VALIDATING, []
    for action in WAY:
        state = after(state, action)
        seen.append(state)
    assert seen == [State.VALIDATED, State.CANARY, State.WIDENED, State.PROMOTED]
    assert after(State.VALIDATING, Action.REFUSE) == State.REFUSED


@pytest.mark.parametrize(("state", "action"), list(product(sorted(RUNNING), EXITS)))
def test_what_runs_can_be_ended_in_every_way(state: State, action: Action) -> None:
    assert after(state, action) in ENDED


@pytest.mark.parametrize(("state", "action"), list(product(sorted(ENDED), Action)))
def test_what_has_ended_stays_as_it_is(state: State, action: Action) -> None:
    try:
        assert after(state, action) == state
    except IllegalAction as error:
        assert str(error)


def test_no_stage_is_skipped() -> None:
    for state, action in (
        (State.VALIDATING, Action.START),
        (State.VALIDATED, Action.WIDEN),
        (State.CANARY, Action.PROMOTE),
        (State.REFUSED, Action.START),
        (State.PROMOTED, Action.ROLL_BACK),
    ):
        with pytest.raises(IllegalAction):
            after(state, action)


@given(st.sampled_from(State), st.sampled_from(Action))
def test_an_action_repeated_changes_nothing(state: State, action: Action) -> None:
    try:
        reached = after(state, action)
    except IllegalAction:
        return
    assert after(reached, action) == reached


def test_a_stage_ends_after_its_window_and_its_extensions() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    stage = Stage(began, timedelta(minutes=15), 1)
    assert stage.ends_at == began + timedelta(minutes=30)
    assert stage.longest(2) == began + timedelta(minutes=45)
    assert frozenset({State.CANARY, State.WIDENED}) == IN_TRAFFIC


@given(
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=50, unique=True),
    st.text(max_size=10),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_larger_share_only_adds_keys(keys: list[str], salt: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert not (in_canary(keys, salt, smaller) & ~in_canary(keys, salt, larger)).any()
    assert in_canary(keys, salt, 1).all()
    assert not in_canary(keys, salt, 0).any()


def test_positions_are_uniform_and_salts_independent() -> None:
    keys = [f"card-{number}" for number in range(20_000)]
    one, other = positions(keys, "a"), positions(keys, "b")
    # Kolmogorov and Smirnov: the distance from uniform exceeds 1.95 / √n in one of a thousand samples.
    distance = np.abs(np.sort(one) - (np.arange(len(keys)) + 0.5) / len(keys)).max()
    assert distance < 1.95 / np.sqrt(len(keys))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(keys))
    assert positions(keys, "a").tolist() == one.tolist()


def test_over_http_a_version_is_a_shadow_before_it_gets_traffic() -> None:
    state = State.VALIDATED
    for action in (Action.SHADOW, Action.START, Action.WIDEN, Action.PROMOTE):
        state = after(state, action, Mode.HTTP)
        assert after(state, action, Mode.HTTP) == state
    assert state == State.PROMOTED
    with pytest.raises(IllegalAction, match="start is not possible in the state validated"):
        after(State.VALIDATED, Action.START, Mode.HTTP)
    with pytest.raises(IllegalAction, match="shadow is not possible in the state validated"):
        after(State.VALIDATED, Action.SHADOW)
