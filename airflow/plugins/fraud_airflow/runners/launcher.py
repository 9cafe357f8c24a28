"""Becomes one job: `python -I -S launcher.py PARENT LOCK HOLDER PROGRAM …`.

Asks the kernel to end the job with the task that started it (the process PARENT), writes into the lock's
file who holds it (LOCK: its descriptor, or nothing; HOLDER: a line of text), and executes the program.
Nothing secret is among the arguments. Every job pays for it, so it imports next to nothing: json, signal
and typing would double what it costs.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SIGKILL = 9


def main(parent: str, lock: str, holder: str, *program: str) -> None:
    """Does not return."""
    die_with_parent(int(parent))
    if lock:
        me = os.getpid()
        os.ftruncate(int(lock), 0)
        os.pwrite(int(lock), f"{holder}\n{me} {started(me)}\n".encode(), 0)
    os.execv(program[0], program)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process, across `exec`, as soon as its parent is gone (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"The job is not started: prctl failed ({os.strerror(ctypes.get_errno())}).")
    # The parent may have ended before the kernel was asked.
    if os.getppid() != parent:
        sys.exit("The job is not started: its task is gone.")


def started(pid: int) -> str | None:
    """When the process started, in the system's own terms; None if there is none, or only its remains.

    A pid is used again, a pid with its start is not.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    import subprocess

    ps = subprocess.run(  # noqa: PLW1510
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.split(maxsplit=1)
    return None if not ps or ps[0].startswith("Z") else ps[1].strip()


if __name__ == "__main__":
    main(*sys.argv[1:])
