"""The stack that `./fraud test-stack` has brought up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The running stack; without one its tests are skipped."""
    running = running_stack()
    if running is None:
        pytest.skip("not run: there is no stack; ./fraud test-stack brings one up")
    return running


@pytest.fixture(scope="module")
def quiet(stack: Stack) -> Iterator[None]:
    """The stack with paused schedules, so that a test has the machine to itself."""
    stack.pause(True)
    yield
    stack.pause(False)
