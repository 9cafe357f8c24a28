"""Termination of long-running processes by signals."""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType


def termination_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    requested = threading.Event()

    def set_event(number: int, frame: FrameType | None) -> None:
        del number, frame
        # The handler may interrupt the main thread while that holds the event's lock at the start of a wait.
        # Setting the event there would deadlock, so another thread sets it.
        _thread.start_new_thread(requested.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, set_event)
    return requested
