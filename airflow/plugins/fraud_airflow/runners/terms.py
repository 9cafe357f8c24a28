"""What holds for every job, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

KILL_PATIENCE_S: Final = 3.0  # Airflow follows its own SIGTERM with SIGKILL after 5 s
# A task that Airflow runs again while the first still runs: that one is told at its next heartbeat (5 s).
LOCK_PATIENCE_S: Final = 15.0

Line = Callable[[str], None]


def quiet(line: Line) -> Line:
    """The same, whatever happens to the log."""

    def try_to(text: str) -> None:
        with suppress(Exception):
            line(text)

    return try_to
