"""The arithmetic of `recovery.py`; the measurement itself needs a quiet machine."""

from __future__ import annotations

import pytest

from tests.faults.recovery import seconds_until_back


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ([100, 100, 100, 100], 0),
        ([0, 0, 90, 90, 90], 2),
        ([0, 0, 89, 89, 89], None),
        ([0, 300, 0, 0, 100, 100, 100], 1),  # working off a backlog counts as throughput
        ([0, 0, 0, 100, 100], None),  # too short to decide
        ([0, 100, 0, 0, 100, 100, 100], 4),
        ([], None),
    ],
)
def test_the_second_from_which_on_throughput_is_back(after: list[int], seconds: int | None) -> None:
    assert seconds_until_back(100, after) == seconds
