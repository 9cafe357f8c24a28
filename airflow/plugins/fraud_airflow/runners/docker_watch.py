"""What goes on beside the reading of a container's log: waiting for its end, and having it ended."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any, Final

from fraud_airflow.jobs import JobFailed
from fraud_airflow.runners.docker_api import Broken, Docker, Stream
from fraud_airflow.runners.terms import KILL_PATIENCE_S

_INTERVAL_S: Final = 1.0  # how often to look whether the task still has a supervisor
_AGAIN_S: Final = 0.3


class Ending:
    """The wait for a container's end, held from before its start: so long the proxy lets it live."""

    def __init__(self, docker: Docker, container: str) -> None:
        self._docker = docker
        self._at = f"/containers/{container}"
        self._come = threading.Event()
        self._closed = False
        self._status: int | None = None
        self._problem = "Nobody knows how the job ended."
        self._stream = self._open()
        self._thread = threading.Thread(target=self._wait, name="job's end", daemon=True)

    def __enter__(self) -> Ending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._stream.interrupt()
        self._thread.join()
        with self._stream:
            pass  # where the thread had just opened another

    def has_come(self, timeout_s: float = 0) -> bool:
        """Whether it has, or cannot be waited for."""
        return self._come.wait(timeout_s)

    def status(self) -> int:
        """The container's exit code.

        Raises:
            JobFailed: it cannot be known.
        """
        self._come.wait()
        if self._status is None:
            raise JobFailed(self._problem)
        return self._status

    def _open(self) -> Stream:
        return self._docker.open("POST", f"{self._at}/wait", {"condition": "next-exit"})

    def _wait(self) -> None:
        try:
            while not self._closed and not self._ended(self._stream):
                self._stream = self._open()
                self._look()
        except JobFailed as failed:
            self._problem = str(failed)
        finally:
            self._come.set()

    def _ended(self, stream: Stream) -> bool:
        """Read to the end; false when the connection broke before."""
        if self._status is not None:
            return True
        try:
            with stream:
                answer = stream.answer()
        except Broken:
            return False
        if answer.status != 200:
            raise JobFailed(f"The job's container cannot be waited for: {answer.message()}.")
        self._status = int(answer.document()["StatusCode"])
        return True

    def _look(self) -> None:
        """It may have ended while nobody waited; from here on somebody does."""
        answer = self._docker.call("GET", f"{self._at}/json")
        if answer.status != 200:
            raise JobFailed(f"The job's container is gone: {answer.message()}.")
        state: dict[str, Any] = answer.document()["State"]
        if state["Status"] in ("exited", "dead"):
            self._status = int(state["ExitCode"])


class Guard:
    """Has the container ended when the task is, or when whoever supervised the task is gone."""

    def __init__(
        self, docker: Docker, container: str, ending: Ending, on_orphaned: Callable[[], None]
    ) -> None:
        self._docker = docker
        self._at = f"/containers/{container}"
        self._ending = ending
        self._on_orphaned = on_orphaned
        self._parent = os.getppid()
        self._rings, self._bell = os.pipe()
        self._called = self._closed = False
        self._thread = threading.Thread(target=self._watch, name="job's guard", daemon=True)

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._ring()
        self._thread.join()
        os.close(self._bell)
        os.close(self._rings)

    def end(self) -> None:
        """Ask the container to end, and make it after a patience; takes no lock."""
        self._called = True
        self._ring()

    def _ring(self) -> None:
        os.write(self._bell, b"!")

    def _watch(self) -> None:
        while not self._closed and not self._ending.has_come():
            if self._called:
                self._stop()
            elif os.getppid() != self._parent:
                self._on_orphaned()
                continue
            if select.select([self._rings], [], [], _AGAIN_S if self._called else _INTERVAL_S)[0]:
                os.read(self._rings, 64)

    def _stop(self) -> None:
        # One that is not started yet is not stopped by it: so it is said again.
        try:
            self._docker.call("POST", f"{self._at}/stop", {"t": int(KILL_PATIENCE_S)})
        except JobFailed:
            return
