"""Which core a process runs on: the one that is measured on one, what puts it under load on another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEASURED: Final = 0
GENERATOR: Final = 1


@contextmanager
def pinned(pid: int, core: int) -> Iterator[None]:
    """A process, with all threads it has and will have, on one core; nothing happens where there is one."""
    if not _several():
        yield
        return
    before = os.sched_getaffinity(pid)
    _place(pid, {core})
    try:
        yield
    finally:
        _place(pid, before)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread on one core for as long as it is entered."""
    if not _several():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _place(pid: int, allowed: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), allowed)


def _several() -> bool:
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1
