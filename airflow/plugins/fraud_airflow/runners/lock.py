"""A lock that lives exactly as long as the job: the job itself holds the descriptor.

Whoever finds it taken reads from its file who holds it, and ends a holder whose task is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fraud_airflow.jobs import JobFailed
from fraud_airflow.runners.launcher import started

_INTERVAL_S: Final = 0.05


def take(path: Path, patience_s: float, stopped: Callable[[], bool]) -> int:
    """The descriptor of the taken lock; an orphan that holds it is ended, any other holder waited for.

    Raises:
        JobFailed: it is still held after `patience_s`, or `stopped` became true.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait(descriptor, path.stem, patience_s, stopped)
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def holder(labels: Mapping[str, str]) -> str:
    """One line about the task that holds the lock; the launcher adds one about the job's process."""
    me = {"task_pid": os.getpid(), "task_started": started(os.getpid())}
    return json.dumps({**labels, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **me})


def is_process(pid: object, start: object) -> bool:
    """Whether that very process still runs, not another that got its pid."""
    return isinstance(pid, int) and pid > 1 and start is not None and started(pid) == start


def _wait(descriptor: int, name: str, patience_s: float, stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience_s
    while not _try(descriptor):
        if stopped():
            raise JobFailed(f"The task was ended while it waited for the lock {name}.")
        held_by = _read(descriptor)
        if _is_orphan(held_by):
            _end(held_by, patience_s)
        elif time.monotonic() > deadline:
            raise JobFailed(_sentence(name, held_by, patience_s))
        time.sleep(_INTERVAL_S)


def _try(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _read(descriptor: int) -> dict[str, Any]:
    """Who holds the lock; empty where it was taken a moment ago, and nothing is written yet."""
    task, _, job = os.pread(descriptor, 16384, 0).decode("utf-8", errors="replace").partition("\n")
    pid, _, start = job.partition(" ")
    if not start.endswith("\n"):
        return {}
    return {**json.loads(task), "job_pid": int(pid), "job_started": start.rstrip("\n")}


def _is_orphan(held_by: Mapping[str, Any]) -> bool:
    return _runs(held_by, "job") and not _runs(held_by, "task")


def _runs(held_by: Mapping[str, Any], which: str) -> bool:
    return is_process(held_by.get(f"{which}_pid"), held_by.get(f"{which}_started"))


def _end(held_by: Mapping[str, Any], patience_s: float) -> None:
    """End a job and its group; it is asked first, so that it may finish what it does."""
    deadline = time.monotonic() + patience_s
    _signal(held_by, signal.SIGTERM)
    while _runs(held_by, "job"):
        if time.monotonic() > deadline:
            _signal(held_by, signal.SIGKILL)
        time.sleep(_INTERVAL_S)


def _signal(held_by: Mapping[str, Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(held_by["job_pid"], number)  # a job leads the group of its own


def _sentence(name: str, held_by: Mapping[str, Any], patience_s: float) -> str:
    if not held_by:
        return f"The lock {name} is held by a job that is only starting, for longer than {patience_s:g} s."
    labels = " ".join(str(held_by.get(f"fraud.{key}_id", "?")) for key in ("dag", "task", "run"))
    return (
        f"The lock {name} is held by the job of {labels} (process {held_by['job_pid']}, since "
        f"{held_by.get('since')}), which did not end within {patience_s:g} s: wait for it, or end it."
    )
