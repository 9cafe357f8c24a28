"""Waiting for asynchronous effects in other processes."""

import time
from collections.abc import Callable

_SHORTEST_S, _LONGEST_S = 0.02, 0.5


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `check` becomes true within `seconds`; it is called at least once after that.

    Polls every 20 ms, or less often if the check itself takes long: otherwise a check that asks a server
    would keep that server busy and slow down what is waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if check():
            return True
        ended = time.monotonic()
        if began > deadline:
            return False
        time.sleep(min(max(_SHORTEST_S, 5 * (ended - began)), _LONGEST_S))
