"""CPU time and peak memory of processes, each with all its descendants."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import psutil

SAMPLE_SECONDS = 0.25


@dataclass(slots=True)
class Usage:
    """CPU seconds within the measurement; peak of the proportional set size (shared pages counted once)."""

    cpu: float = 0.0
    peak_mb: float = 0.0


@dataclass(slots=True)
class Meter:
    """Measures while it is entered; `add` puts a process started meanwhile under the meter."""

    pids: Mapping[str, int]
    sample_seconds: float = SAMPLE_SECONDS
    usage: dict[str, Usage] = field(default_factory=dict)
    _trees: dict[str, psutil.Process] = field(default_factory=dict)
    _before: dict[str, float] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        for name, pid in self.pids.items():
            self._trees[name] = psutil.Process(pid)
            self._before[name] = cpu_seconds(self._trees[name])
            self.usage[name] = Usage()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def add(self, name: str, pid: int) -> None:
        self._before[name] = 0.0
        self.usage[name] = Usage()
        self._trees[name] = psutil.Process(pid)

    def ended(self, name: str, cpu: float) -> None:
        """A process has ended; the system says it used so many CPU seconds."""
        del self._trees[name]
        self.usage[name].cpu = cpu

    def __exit__(self, *_: object) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()
        for name, tree in self._trees.items():
            self.usage[name].cpu = cpu_seconds(tree) - self._before[name]

    def _sample(self) -> None:
        while not self._done.wait(self.sample_seconds):
            for name, tree in list(self._trees.items()):
                self.usage[name].peak_mb = max(self.usage[name].peak_mb, _memory_mb(tree))


def _family(tree: psutil.Process) -> list[psutil.Process]:
    return [tree, *tree.children(recursive=True)]


def cpu_seconds(tree: psutil.Process) -> float:
    """Of a process and its descendants: the living, and the children that ended and were waited for."""
    total = 0.0
    for process in _family(tree):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _memory_mb(tree: psutil.Process) -> float:
    total = 0
    try:
        for process in _family(tree):
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0.0
    return total / 2**20
