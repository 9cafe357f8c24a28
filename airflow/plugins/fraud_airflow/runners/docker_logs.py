"""A container's log: from the daemon's frames to lines, and on from where a broken connection left off."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Iterator
from typing import Final

from fraud_airflow.lines import LineSplitter

_STAMP: Final = len("2026-11-21T20:20:32.583330759Z ")


class LogReader:
    """The lines of one container's log, over as many connections as it takes, each line once.

    The daemon can begin at a moment, but many frames have the same. So it is asked for all of the last two
    seconds that were seen, in the order of its file, and as many as were seen of them are left out.
    """

    def __init__(self) -> None:
        # A long line comes in several frames of one stamp; lines of the other stream may lie between them.
        self._begun: dict[bytes, LineSplitter] = {}
        self._seen: dict[int, int] = {}
        self._skip = 0
        self._second, self._second_text = 0, b""

    def query(self) -> dict[str, str]:
        """What to ask the daemon for; the frames that come are those of the next `lines`."""
        self._skip = sum(self._seen.values())
        asked = {"stdout": "1", "stderr": "1", "timestamps": "1"}
        return asked | ({"since": str(min(self._seen))} if self._seen else {})

    def lines(self, frames: Iterable[bytes]) -> Iterator[str]:
        """The lines in it that are new, as they come."""
        for frame in frames:
            if self._skip:
                self._skip -= 1
                continue
            stamp, text = frame[: _STAMP - 1], frame[_STAMP:]
            self._count(stamp)
            splitter = self._begun.pop(stamp, None) or LineSplitter()
            yield from splitter.feed(text)
            if not text.endswith(b"\n"):
                self._begun[stamp] = splitter

    def rest(self) -> Iterator[str]:
        """What was written after the last line feeds."""
        for splitter in self._begun.values():
            yield from splitter.rest()

    def _count(self, stamp: bytes) -> None:
        second = self._parse(stamp[:19])
        self._seen[second] = self._seen.get(second, 0) + 1
        # Two streams are stamped apart and written together: a frame may be a little older than the last.
        for old in [one for one in self._seen if one < max(self._seen) - 1]:
            del self._seen[old]

    def _parse(self, text: bytes) -> int:
        if text != self._second_text:
            self._second = calendar.timegm(time.strptime(text.decode("ascii"), "%Y-%m-%dT%H:%M:%S"))
            self._second_text = text
        return self._second
