"""Waits for a container's end, in parallel to reading its log."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Final

from docker.errors import APIError
from docker.types import CancellableStream
from requests import RequestException, Response

from fraud_airflow.jobs import JobFailed
from fraud_airflow.runners.docker_api import DockerClient, explanation

_ENDED_STATES: Final = ("exited", "dead")


class ContainerExit:
    """Waits for a container's end, from before its start: the proxy ends containers that nobody waits for."""

    def __init__(self, docker: DockerClient, container: str) -> None:
        self._docker = docker
        self._container = container
        self._known = threading.Event()
        self._closed = False
        self._status: int | None = None
        self._problem = "It is not known how the job ended."
        self._answer = self._open()
        self._thread = threading.Thread(target=self._wait, name="job's end", daemon=True)

    def __enter__(self) -> ContainerExit:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._thread.is_alive():
            # Only closing the socket ends the other thread's read. It may have ended just now, hence
            # `suppress`.
            with suppress(AttributeError, OSError):
                CancellableStream(iter(()), self._answer).close()
        self._thread.join()
        self._answer.close()  # the thread may just have opened a new one

    def is_known(self, timeout_s: float = 0) -> bool:
        """Whether the container has ended, or waiting for it has failed."""
        return self._known.wait(timeout_s)

    def status(self) -> int:
        """The container's exit code.

        Raises:
            JobFailed: it cannot be known.
        """
        self._known.wait()
        if self._status is None:
            raise JobFailed(self._problem)
        return self._status

    def _open(self) -> Response:
        return self._docker.open("POST", f"/containers/{self._container}/wait", condition="next-exit")

    def _wait(self) -> None:
        try:
            while not self._closed and not self._read_status():
                self._answer = self._open()
                self._check_state()
        except APIError as error:
            self._problem = f"The job's container is gone: {explanation(error)}."
        except JobFailed as failed:
            self._problem = str(failed)
        finally:
            self._known.set()

    def _read_status(self) -> bool:
        """Read the exit code; false if the connection broke before."""
        if self._status is None:
            with suppress(RequestException):
                self._status = int(self._answer.json()["StatusCode"])
        return self._status is not None

    def _check_state(self) -> None:
        """Check whether the container ended before the new wait was open."""
        inspection = self._docker.call(lambda client: client.inspect_container(self._container))
        state: dict[str, Any] = inspection["State"]
        if state["Status"] in _ENDED_STATES:
            self._status = int(state["ExitCode"])
