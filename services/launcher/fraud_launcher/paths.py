"""Paths through which other programs find the embedded platform. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

# A socket's path is limited to about 100 characters; names in the directory take up to 20.
_SOCKET_DIRECTORY_MAX: Final = 80
_SUPERVISOR_SOCKET: Final = "s.sock"


def run_directory(local: Path) -> Path:
    """The directory of process files and sockets: below `local` if that path is short enough for a socket."""
    local_directory = local / "run"
    if len(os.fsencode(local_directory)) <= _SOCKET_DIRECTORY_MAX:
        return local_directory
    digest = hashlib.sha256(os.fsencode(local)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"fraud-run-{os.getuid()}-{digest}"


def supervisor_socket(local: Path) -> Path:
    return run_directory(local) / _SUPERVISOR_SOCKET


def state_file(local: Path) -> Path:
    return local / "state.json"


def runs(local: Path) -> bool:
    """Whether the embedded platform of `local` is running."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(supervisor_socket(local))) == 0


def ports(local: Path) -> set[int]:
    """The ports of the embedded platform of `local`; empty if it is not running."""
    if not runs(local):
        return set()
    try:
        return set(json.loads(state_file(local).read_text("utf-8"))["ports"])
    except (OSError, ValueError, LookupError, TypeError):
        return set()
