"""Turns the signals that stop a job into an exception, so that the job can clean up."""

from __future__ import annotations

import _thread
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from types import FrameType
from typing import Final

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal stops the job. A `BaseException`, so that no handler treats it as an error and continues."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"Interrupted by {self.signal.name}: what was committed is kept.")


class _Handler:
    def __init__(self) -> None:
        self._deferred = False
        self._pending: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        # Further signals are ignored, so that they do not interrupt the clean-up.
        for signal_number in _STOP_SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)
        if self._deferred:
            self._pending = number
        else:
            raise Stopped(number)

    @contextmanager
    def signals_deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            number, self._pending = self._pending, None
            if number is not None:
                raise Stopped(number)


_handler: Final = _Handler()


def install_handlers() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread, unless they are ignored."""
    for number in _STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handler)


def stop_event() -> Event:
    """An event that SIGTERM and SIGINT set, for a job that finishes its current work before it stops."""
    stop = Event()

    def request_stop(_number: int, _frame: FrameType | None) -> None:
        # A handler runs in the main thread, which may hold the event's lock because it is about to wait;
        # setting the event there could deadlock.
        _thread.start_new_thread(stop.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    return stop


def signals_deferred() -> AbstractContextManager[None]:
    """Defer signals within the context; use it only for a short request whose response must not be lost."""
    return _handler.signals_deferred()
