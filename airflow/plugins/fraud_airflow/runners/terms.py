"""What holds for every job, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

KILL_PATIENCE_S: Final = 3.0  # Airflow follows its own SIGTERM with SIGKILL after 5 s
# A task that Airflow runs again while the first still runs: that one is told at its next heartbeat (5 s).
LOCK_PATIENCE_S: Final = 15.0
FIXED: Final = {
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",
    # Numeric libraries start a thread per core each; a job shares the machine with the servers.
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",
}

Line = Callable[[str], None]


def quiet(line: Line) -> Line:
    """The same, whatever happens to the log."""

    def try_to(text: str) -> None:
        with suppress(Exception):
            line(text)

    return try_to
