"""A lock that is held exactly as long as its job runs, because the job itself has the descriptor open.

If the lock is taken, its file names the holder; a holder whose task is gone is ended.
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
from fraud_airflow.runners.launcher import process_start

_INTERVAL_S: Final = 0.05


def acquire(path: Path, patience_s: float, stopped: Callable[[], bool]) -> int:
    """Acquire the lock and return its descriptor. An orphaned holder is ended, any other one is waited for.

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


def describe_holder(labels: Mapping[str, str]) -> str:
    """One line that describes the task holding the lock; the launcher adds one about the job's process."""
    own_process = {"task_pid": os.getpid(), "task_started": process_start(os.getpid())}
    return json.dumps({**labels, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **own_process})


def is_process(pid: object, start: object) -> bool:
    """Whether the process with this start time still runs, not another one with the same pid."""
    return isinstance(pid, int) and pid > 1 and start is not None and process_start(pid) == start


def _wait(descriptor: int, name: str, patience_s: float, stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience_s
    while not _try(descriptor):
        if stopped():
            raise JobFailed(f"The task was ended while it waited for the lock {name}.")
        holder = _read(descriptor)
        if _is_orphan(holder):
            _end(holder, patience_s)
        elif time.monotonic() > deadline:
            raise JobFailed(_held_message(name, holder, patience_s))
        time.sleep(_INTERVAL_S)


def _try(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _read(descriptor: int) -> dict[str, Any]:
    """The holder of the lock; empty if it was taken just now and the file is not written yet."""
    task, _, job = os.pread(descriptor, 16384, 0).decode("utf-8", errors="replace").partition("\n")
    pid, _, start = job.partition(" ")
    if not start.endswith("\n"):
        return {}
    return {**json.loads(task), "job_pid": int(pid), "job_started": start.rstrip("\n")}


def _is_orphan(holder: Mapping[str, Any]) -> bool:
    return _runs(holder, "job") and not _runs(holder, "task")


def _runs(holder: Mapping[str, Any], role: str) -> bool:
    return is_process(holder.get(f"{role}_pid"), holder.get(f"{role}_started"))


def _end(holder: Mapping[str, Any], patience_s: float) -> None:
    """End a job and its process group: SIGTERM first, SIGKILL after `patience_s`."""
    deadline = time.monotonic() + patience_s
    _signal(holder, signal.SIGTERM)
    while _runs(holder, "job"):
        if time.monotonic() > deadline:
            _signal(holder, signal.SIGKILL)
        time.sleep(_INTERVAL_S)


def _signal(holder: Mapping[str, Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(holder["job_pid"], number)  # a job leads its own process group


def _held_message(name: str, holder: Mapping[str, Any], patience_s: float) -> str:
    if not holder:
        return (
            f"The lock {name} has been held by a job that is still starting for longer than {patience_s:g} s."
        )
    labels = " ".join(str(holder.get(f"fraud.{key}_id", "?")) for key in ("dag", "task", "run"))
    return (
        f"The lock {name} is held by the job of {labels} (process {holder['job_pid']}, since "
        f"{holder.get('since')}), which did not end within {patience_s:g} s: wait for it, or end it."
    )
