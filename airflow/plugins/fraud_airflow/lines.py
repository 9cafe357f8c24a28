"""A job's output: from bytes as they come to lines, and from lines to something a person reads."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from config.job_results import ENDING_LABELS

LINE_LIMIT_BYTES: Final = 64 * 1024
_LEVELS: Final = logging.getLevelNamesMapping()
_NOT_SHOWN: Final = frozenset({"level", "event", "timestamp", "service", "logger", "exception"})


class LineSplitter:
    """Lines of a byte stream that is read in pieces; never holds more than one line of the limit."""

    def __init__(self, limit: int = LINE_LIMIT_BYTES) -> None:
        self._limit = limit
        self._held = b""
        self._dropped = 0

    def feed(self, piece: bytes) -> list[str]:
        """The lines this piece completes."""
        *complete, rest = piece.split(b"\n")
        lines = []
        for part in complete:
            self._hold(part)
            lines.append(self._take())
        self._hold(rest)
        return lines

    def rest(self) -> list[str]:
        """What was written after the last line feed."""
        return [self._take()] if self._held else []

    def _hold(self, part: bytes) -> None:
        room = self._limit - len(self._held)
        self._held += part[:room]
        self._dropped += max(0, len(part) - room)

    def _take(self) -> str:
        text = self._held.rstrip(b"\r").decode("utf-8", errors="replace")
        if self._dropped:
            text += f" … ({self._dropped} bytes more)"
        self._held, self._dropped = b"", 0
        return text


def readable(line: str) -> tuple[int, str]:
    """The log level and the text of a line; a JSON log line becomes `event field=value …`."""
    record = _record(line)
    if record is None:
        return logging.INFO, line
    level = _LEVELS.get(str(record.get("level", "info")).upper(), logging.INFO)
    fields = [f"{key}={_value(value)}" for key, value in record.items() if key not in _NOT_SHOWN]
    text = " ".join([str(record["event"]), *fields])
    trace = record.get("exception")
    return level, f"{text}\n{trace}" if trace else text


def sentence(line: str) -> str:
    """The reason a job gave in its last line, without the label before it."""
    record = _record(line)
    text = line if record is None else str(record["event"])
    for label in ENDING_LABELS:
        text = text.removeprefix(f"{label}: ")
    return " ".join(text.split())[:2000]


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _value(value: Any) -> str:
    if isinstance(value, str):
        plain = value and not any(character.isspace() or character in "=\"'" for character in value)
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
