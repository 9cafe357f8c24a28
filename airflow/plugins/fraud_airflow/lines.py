"""The output of jobs: splits a byte stream into lines, and makes lines readable."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from config.job_results.common import ENDING_LABELS

Line = Callable[[str], None]  # consumes one line of output
LINE_LIMIT_BYTES: Final = 64 * 1024
_LEVELS: Final = logging.getLevelNamesMapping()
_HIDDEN_FIELDS: Final = frozenset({"level", "event", "timestamp", "service", "logger", "exception"})


def ignoring_errors(line: Line) -> Line:
    """The same consumer, with its exceptions suppressed."""

    def try_to(text: str) -> None:
        with suppress(Exception):
            line(text)

    return try_to


class LineSplitter:
    """Splits a byte stream into lines; buffers at most one line, cut to the limit."""

    def __init__(self, limit: int = LINE_LIMIT_BYTES) -> None:
        self._limit = limit
        self._buffer = b""
        self._dropped = 0

    def feed(self, piece: bytes) -> list[str]:
        """The lines that this piece completes."""
        *complete, rest = piece.split(b"\n")
        lines = []
        for part in complete:
            self._append(part)
            lines.append(self._complete_line())
        self._append(rest)
        return lines

    def rest(self) -> list[str]:
        """The incomplete line after the last line feed."""
        return [self._complete_line()] if self._buffer else []

    def _append(self, part: bytes) -> None:
        room = self._limit - len(self._buffer)
        self._buffer += part[:room]
        self._dropped += max(0, len(part) - room)

    def _complete_line(self) -> str:
        text = self._buffer.rstrip(b"\r").decode("utf-8", errors="replace")
        if self._dropped:
            text += f" … ({self._dropped} bytes more)"
        self._buffer, self._dropped = b"", 0
        return text


def readable(line: str) -> tuple[int, str]:
    """The log level and the text of a line; a JSON log line becomes `event field=value …`."""
    record = _record(line)
    if record is None:
        return logging.INFO, line
    level = _LEVELS.get(str(record.get("level", "info")).upper(), logging.INFO)
    fields = [f"{key}={_value(value)}" for key, value in record.items() if key not in _HIDDEN_FIELDS]
    text = " ".join([str(record["event"]), *fields])
    trace = record.get("exception")
    return level, f"{text}\n{trace}" if trace else text


def sentence(line: str) -> str:
    """The reason in a job's last line, without its label."""
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
