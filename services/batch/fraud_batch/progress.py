"""One line of the log now and then: how far a run is, how fast, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

SECONDS: Final = 5.0  # between two lines


@dataclass(slots=True)
class Progress:
    """Rates are those of this attempt, not of what an earlier one has done.

    Args:
        clock: seconds that only rise.
        log: takes the event's name and its values.
    """

    clock: Callable[[], float]
    log: Callable[..., Any]
    done_before: float = 0.0
    rows: int = 0

    def __post_init__(self) -> None:
        self._started = self._logged = self.clock()

    _started: float = 0.0
    _logged: float = 0.0

    @property
    def seconds(self) -> float:
        return self.clock() - self._started

    def add(self, rows: int, done: float, total_rows: int) -> None:
        """Note finished rows; `done` is the share of the input, `total_rows` those of all attempts."""
        self.rows += rows
        if self.clock() - self._logged >= SECONDS:
            self._logged = self.clock()
            self.say(done, total_rows)

    def say(self, done: float, total_rows: int) -> None:
        """Log the state now."""
        seconds = max(self.seconds, 1e-9)
        gained = done - self.done_before
        left = seconds * (1 - done) / gained if gained > 0 else None
        self.log(
            "progress",
            rows=total_rows,
            percent=round(100 * done, 1),
            rows_per_second=round(self.rows / seconds),
            seconds_left=None if left is None else round(left),
        )
