"""Becomes one server: reads its specification from a private file, drops privileges, and executes it.

Started by the supervisor as `python -I child.py NAME`, with the directory of specifications in FRAUD_RUN. So
no secret and no path with a space or a per cent sign has to survive the supervisor's configuration file,
and a server's environment holds nothing but its own. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import sys
from pathlib import Path


def main(name: str) -> None:
    """Does not return."""
    run = Path(os.environ["FRAUD_RUN"])
    spec = json.loads((run / f"{name}.json").read_text("utf-8"))
    _end_children_of_the_last(run / f"{name}.pid")
    (run / f"{name}.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    if spec["user"]:
        entry = pwd.getpwnam(spec["user"])
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.chdir(spec["cwd"])
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


def _end_children_of_the_last(pid_file: Path) -> None:
    """End what a server that was killed left behind: its workers would go on beside the new one's.

    The supervisor makes each server the leader of a process group named after it. A group's number is given
    to no new process while anybody is in it, so members without their leader are the server's own.
    """
    try:
        group = int(pid_file.read_text("ascii"))
    except (OSError, ValueError):
        return
    if not Path(f"/proc/{group}").exists():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
