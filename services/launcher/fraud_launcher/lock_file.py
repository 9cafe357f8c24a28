"""Locks that say who holds them. Standard library only: `./fraud` has nothing else while it installs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_NOTE_S: Final = 1.0


class Busy(Exception):
    """Somebody else holds the lock; the message is who: what it does, its process and since when."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock that is held.

    Attributes:
        descriptor: a child that inherits it holds the lock on when we are killed.
        left: the note of the last holder, if it did not come to its end.
    """

    descriptor: int
    left: dict[str, Any]


@contextmanager
def hold(
    path: Path,
    work: str,
    *,
    wait: Callable[[str], None] | None = None,
    note: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {},
) -> Iterator[Lease]:
    """Hold the lock at `path` while the block runs; the kernel frees it however we end.

    Args:
        work: what is done meanwhile, in the words of others.
        wait: told who holds it, before we wait for them; without it they are not waited for.
        note: given the last holder's note if it did not end, what is noted besides. It is left where the
            block raises.

    Raises:
        Busy: somebody else holds it.
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(descriptor, path, wait)
        left = read_note(path)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        mine = {"work": work, "pid": os.getpid(), "since": since, **note(left)}
        _write(descriptor, mine)
        try:
            yield Lease(descriptor, left)
        except BaseException:
            _write(descriptor, {**mine, "failed": True})
            raise
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def read_note(path: Path) -> dict[str, Any]:
    """What the holder noted, or one that did not come to its end; empty where there is none."""
    try:
        note = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _take(descriptor: int, path: Path, wait: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(_present_note(path))
        if wait is None:
            raise Busy(holder) from None
        wait(holder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _present_note(path: Path) -> dict[str, Any]:
    """The holder's own note, which follows a moment after the lock; else that of the last one."""
    deadline = time.monotonic() + _NOTE_S
    while True:
        note = read_note(path)
        if _lives(note.get("pid")) or time.monotonic() > deadline:
            return note
        time.sleep(0.02)


def _lives(pid: Any) -> bool:
    return isinstance(pid, int) and pid > 0 and Path(f"/proc/{pid}").exists()


def _holder(note: dict[str, Any]) -> str:
    if not {"work", "pid", "since"} <= note.keys():
        return "another command"
    return f"{note['work']} (process {note['pid']}, since {note['since']})"


def _write(descriptor: int, note: dict[str, Any]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode(), 0)
