"""How the processes that go on for ever are asked to end."""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType


def termination_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set, from now on."""
    asked = threading.Event()

    def set_event(number: int, frame: FrameType | None) -> None:
        del number, frame
        # A handler runs in the main thread, perhaps while that holds the event's lock to begin its waiting:
        # set there, the event would wait for this very thread, for ever.
        _thread.start_new_thread(asked.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, set_event)
    return asked
