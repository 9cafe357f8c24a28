"""A thread that calls a function periodically."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from fraud_adapters.job.logs import get_logger

STOP_SECONDS: Final = 5.0


class Poller:
    """Calls `tick` every `seconds` until stopped. Exceptions of `tick` are logged, and polling continues."""

    def __init__(self, name: str, seconds: float, tick: Callable[[], None]) -> None:
        self._name = name
        self._seconds = seconds
        self._tick = tick
        self._stop = Event()
        self._thread = Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._tick()
            except Exception:
                get_logger(__name__).exception("poll_failed", poller=self._name)
            self._stop.wait(self._seconds)
