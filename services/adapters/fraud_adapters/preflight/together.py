"""Runs checks side by side, each with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


class TimedOut(Exception):
    """A check did not end within its time limit."""


def run_together(checks: Mapping[K, Callable[[], T]], seconds: float) -> dict[K, T | Exception]:
    """The result of each check, or the exception it raised; in the order of `checks`.

    A check that does not end within `seconds` gives `TimedOut`. Its thread is left behind: nothing can end a
    call that hangs in a library, and a daemon thread does not keep the process.
    """
    outcomes: dict[K, T | Exception] = {}

    def run(name: K, check: Callable[[], T]) -> None:
        try:
            outcomes[name] = check()
        except Exception as error:
            outcomes[name] = error

    threads = {
        name: Thread(target=run, args=(name, check), name=f"check-{name}", daemon=True)
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = TimedOut(f"did not answer within {seconds:g} s")
    # Copied first, because a late check may still add its outcome.
    ended = dict(outcomes)
    return {name: ended.get(name, late) for name in checks}
