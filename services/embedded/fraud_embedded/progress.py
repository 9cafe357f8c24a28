"""Shows progress: each step with its duration, and the time since the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO


class Progress:
    """One line a step; on a terminal the lines of the running steps count on."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._started = time.monotonic()
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Print nothing from now on, even if steps are still running."""
        self._stop.set()
        if self._live and self._ticker.is_alive():
            self._ticker.join()
            self._erase()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step; several may run at once, each from its own thread."""
        started = time.monotonic()
        with self._lock:
            self._running[name] = started
        if not self._live:
            self.say(f"{name} …")
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            with self._lock:
                del self._running[name]
            self.say(f"{name} {outcome} ({time.monotonic() - started:.1f} s)")

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            if self._stop.is_set():
                return
            self._erase()
            self._out.write(f"[{self.elapsed:6.1f} s] {text}\n")
            self._out.flush()

    def _tick(self) -> None:
        while not self._stop.wait(0.5):
            with self._lock:
                if not self._running:
                    continue
                now = time.monotonic()
                parts = [f"{name} {now - started:.0f} s" for name, started in self._running.items()]
                self._erase()
                self._out.write(f"[{self.elapsed:6.1f} s] {', '.join(parts)} …"[:100])
                self._out.flush()

    def _erase(self) -> None:
        if self._live:
            self._out.write("\r\x1b[K")
