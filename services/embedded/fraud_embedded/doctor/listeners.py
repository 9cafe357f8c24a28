"""Which ports a process and its descendants listen on, as Linux tells it in /proc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTEN: Final = "0A"


def ports_of_family(ancestor: int) -> set[int]:
    """The TCP ports that the process `ancestor` or a descendant of it listens on; empty without /proc."""
    inodes = {inode for pid in _family(ancestor) for inode in _sockets(pid)}
    return {port for inode, port in _listening() if inode in inodes}


def _family(ancestor: int) -> set[int]:
    parents = dict(_parents())
    family = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _parents() -> Iterator[tuple[int, int]]:
    for status in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in brackets, may hold anything.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
            yield int(status.parent.name), int(fields[1])


def _sockets(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                link = str(descriptor.readlink())
                if link.startswith("socket:["):
                    yield link[len("socket:[") : -1]


def _listening() -> Iterable[tuple[str, int]]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    yield fields[9], int(fields[1].rpartition(":")[2], 16)
