"""The stack that `./fraud test-stack` has brought up."""

from __future__ import annotations

import pytest

from tests.stack.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The running stack; without one its tests are not run."""
    found = running_stack()
    if found is None:
        pytest.skip("not run: there is no stack; ./fraud test-stack brings one up")
    return found
