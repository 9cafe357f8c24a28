"""Signals that ask a job to end, as an exception that lets it put its affairs in order."""

from __future__ import annotations

import _thread
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from types import FrameType
from typing import Final

_ASKS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asks the job to end. No `Exception`, so that nobody takes it for an error and goes on."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"Interrupted by {self.signal.name}: what was committed is kept.")


class _Handler:
    def __init__(self) -> None:
        self._held = False
        self._pending: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        # A second signal must not cut short what the first one has begun to put in order.
        for other in _ASKS:
            signal.signal(other, signal.SIG_IGN)
        if self._held:
            self._pending = number
        else:
            raise Stopped(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        self._held = True
        try:
            yield
        finally:
            self._held = False
            number, self._pending = self._pending, None
            if number is not None:
                raise Stopped(number)


_handler: Final = _Handler()


def listen() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread, unless they are ignored."""
    for number in _ASKS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handler)


def stop_event() -> Event:
    """An event that SIGTERM and SIGINT set from now on, for a job that ends when what it is at is done."""
    stop = Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        # A handler runs in the main thread, perhaps while that holds the event's lock to begin its waiting:
        # set there, the event would wait for this very thread, for ever.
        _thread.start_new_thread(stop.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop


def held() -> AbstractContextManager[None]:
    """Within it a signal waits; keep it to one short request whose answer must not be lost."""
    return _handler.held()
