"""Waiting for asynchronous effects in other processes."""

import time
from collections.abc import Callable


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `check` becomes true within `seconds`; polls every 20 ms."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
