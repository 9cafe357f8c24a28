"""Kills a worker process of a Dask cluster in the middle of its work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from distributed import LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin


class _KillsOnce(SchedulerPlugin):
    """Kills the first worker `seconds` after a task of this name was first in the state `after`."""

    name = "kills-once"

    def __init__(self, cluster: LocalCluster, task: str, after: str, seconds: float) -> None:
        self._cluster, self._task, self._after, self._seconds = cluster, task, after, seconds
        self.killed: list[int] = []

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        if not self.killed and finish == self._after and str(key).startswith(self._task):
            self.killed.append(next(iter(self._cluster.workers.values())).process.pid)
            threading.Timer(self._seconds, psutil.Process(self.killed[0]).kill).start()


@contextmanager
def killed_worker(cluster: LocalCluster, task: str, after: str, seconds: float = 0.0) -> Iterator[list[int]]:
    """Meanwhile one worker of the cluster is killed; gives its process id once that has been arranged.

    Args:
        task: how the key of the task begins that starts it.
        after: the state of Dask that this task must have entered: `processing`, or `memory` when it is done.
        seconds: how much later the worker is killed.
    """
    plugin = _KillsOnce(cluster, task, after, seconds)
    scheduler: Any = cluster.scheduler
    scheduler.add_plugin(plugin)
    try:
        yield plugin.killed
    finally:
        scheduler.remove_plugin(plugin.name)
