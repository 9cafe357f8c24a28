"""Starts one job: `python -I -S launcher.py PARENT LOCK HOLDER PROGRAM …`.

Makes the kernel end the job together with its task (the process PARENT), writes the holder into the lock file
(LOCK: its descriptor, or empty; HOLDER: a line of text), and executes the program. The arguments contain no
secrets. Every job runs this module, so it imports almost nothing: json, signal and typing would double its
time.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SIGKILL = 9


def main(parent: str, lock: str, holder: str, *program: str) -> None:
    """Replaces this process by the program; does not return."""
    die_with_parent(int(parent))
    if lock:
        pid = os.getpid()
        os.ftruncate(int(lock), 0)
        os.pwrite(int(lock), f"{holder}\n{pid} {process_start(pid)}\n".encode(), 0)
    os.execv(program[0], program)


def die_with_parent(parent: int) -> None:
    """Make the kernel send SIGKILL to this process, also after `exec`, when its parent ends (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"The job is not started: prctl failed ({os.strerror(ctypes.get_errno())}).")
    # The parent may have ended before the call of prctl.
    if os.getppid() != parent:
        sys.exit("The job is not started: its task is gone.")


def process_start(pid: int) -> str | None:
    """The start time of a process, in the system's format; None if it does not exist or is a zombie.

    Process ids are reused, but a process id together with its start time is unique.
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
