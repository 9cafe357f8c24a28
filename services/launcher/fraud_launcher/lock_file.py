"""Lock files that name their holder. Standard library only: `./fraud` has nothing else while it installs."""

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


class LockHeld(Exception):
    """Another process holds the lock; the message describes it: its work, its process id and since when."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A held lock.

    Attributes:
        descriptor: a child that inherits it keeps the lock if this process is killed.
        previous_note: the note of the previous holder, if that did not finish.
    """

    descriptor: int
    previous_note: dict[str, Any]


@contextmanager
def hold(
    path: Path,
    work: str,
    *,
    wait: Callable[[str], None] | None = None,
    note: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {},
) -> Iterator[Lease]:
    """Hold the lock at `path` while the block runs; the kernel frees it however this process ends.

    Args:
        work: a description of the work, which is shown to other processes.
        wait: called with the holder's description before waiting; without it the function does not wait.
        note: returns further items for our note, given the note of an unfinished previous holder. The note is
            kept if the block raises.

    Raises:
        LockHeld: another process holds it.
        OSError: the file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, path, wait)
        previous_note = read_note(path)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        own_note = {"work": work, "pid": os.getpid(), "since": since, **note(previous_note)}
        _write(descriptor, own_note)
        try:
            yield Lease(descriptor, previous_note)
        except BaseException:
            _write(descriptor, {**own_note, "failed": True})
            raise
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def read_note(path: Path) -> dict[str, Any]:
    """The note of the current holder or of an unfinished one; empty if there is none."""
    try:
        note = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _acquire(descriptor: int, path: Path, wait: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(_present_note(path))
        if wait is None:
            raise LockHeld(holder) from None
        wait(holder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _present_note(path: Path) -> dict[str, Any]:
    """The current holder's note, which is written shortly after taking the lock; else the previous note."""
    deadline = time.monotonic() + _NOTE_S
    while True:
        note = read_note(path)
        if _is_alive(note.get("pid")) or time.monotonic() > deadline:
            return note
        time.sleep(0.02)


def _is_alive(pid: Any) -> bool:
    return isinstance(pid, int) and pid > 0 and Path(f"/proc/{pid}").exists()


def _holder(note: dict[str, Any]) -> str:
    if not {"work", "pid", "since"} <= note.keys():
        return "another command"
    return f"{note['work']} (process {note['pid']}, since {note['since']})"


def _write(descriptor: int, note: dict[str, Any]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode(), 0)
