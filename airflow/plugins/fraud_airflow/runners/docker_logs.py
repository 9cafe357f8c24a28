"""Reads a container's log line by line and resumes after a broken connection."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Iterator
from typing import Final

from fraud_airflow.lines import LineSplitter

_STAMP: Final = len("2026-11-21T20:20:32.583330759Z ")


class LogReader:
    """The lines of one container's log, over as many connections as it takes, each line once.

    The daemon can start a log at a given second, but many frames share one. To resume, the reader requests
    the last two seconds it has seen and skips as many frames as it has already read of them.
    """

    def __init__(self) -> None:
        # A long line is split into frames with equal timestamps; frames of the other stream may come between.
        self._unfinished: dict[bytes, LineSplitter] = {}
        self._frames_by_second: dict[int, int] = {}
        self._skip = 0
        self._second, self._second_text = 0, b""

    def query(self) -> dict[str, str]:
        """The parameters of the next request; pass its frames to `lines`."""
        self._skip = sum(self._frames_by_second.values())
        parameters = {"stdout": "1", "stderr": "1", "timestamps": "1"}
        return parameters | ({"since": str(min(self._frames_by_second))} if self._frames_by_second else {})

    def lines(self, frames: Iterable[bytes]) -> Iterator[str]:
        """The new lines in the frames, as they arrive."""
        for frame in frames:
            if self._skip:
                self._skip -= 1
                continue
            stamp, text = frame[: _STAMP - 1], frame[_STAMP:]
            self._count(stamp)
            splitter = self._unfinished.pop(stamp, None) or LineSplitter()
            yield from splitter.feed(text)
            if not text.endswith(b"\n"):
                self._unfinished[stamp] = splitter

    def rest(self) -> Iterator[str]:
        """The incomplete lines after the last line feeds."""
        for splitter in self._unfinished.values():
            yield from splitter.rest()

    def _count(self, stamp: bytes) -> None:
        second = self._parse(stamp[:19])
        self._frames_by_second[second] = self._frames_by_second.get(second, 0) + 1
        # The two streams are stamped separately, so a frame may be slightly older than its predecessor.
        oldest = max(self._frames_by_second) - 1
        for known in [known for known in self._frames_by_second if known < oldest]:
            del self._frames_by_second[known]

    def _parse(self, text: bytes) -> int:
        if text != self._second_text:
            self._second = calendar.timegm(time.strptime(text.decode("ascii"), "%Y-%m-%dT%H:%M:%S"))
            self._second_text = text
        return self._second
