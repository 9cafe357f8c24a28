"""The wait for a container's end, beside the reading of its log."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Final

from docker.errors import APIError
from docker.types import CancellableStream
from requests import RequestException, Response

from fraud_airflow.jobs import JobFailed
from fraud_airflow.runners.docker_api import Docker, explanation

_OVER: Final = ("exited", "dead")


class Ending:
    """The wait for a container's end, held from before its start: so long the proxy lets it live."""

    def __init__(self, docker: Docker, container: str) -> None:
        self._docker = docker
        self._container = container
        self._come = threading.Event()
        self._closed = False
        self._status: int | None = None
        self._problem = "Nobody knows how the job ended."
        self._answer = self._open()
        self._thread = threading.Thread(target=self._wait, name="job's end", daemon=True)

    def __enter__(self) -> Ending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._thread.is_alive():
            # What another thread reads ends by its socket alone; it may be over just now.
            with suppress(AttributeError, OSError):
                CancellableStream(iter(()), self._answer).close()
        self._thread.join()
        self._answer.close()  # where the thread had just opened another

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

    def _open(self) -> Response:
        return self._docker.open("POST", f"/containers/{self._container}/wait", condition="next-exit")

    def _wait(self) -> None:
        try:
            while not self._closed and not self._ended():
                self._answer = self._open()
                self._look()
        except APIError as error:
            self._problem = f"The job's container is gone: {explanation(error)}."
        except JobFailed as failed:
            self._problem = str(failed)
        finally:
            self._come.set()

    def _ended(self) -> bool:
        """Read to the end; false when the connection broke before."""
        if self._status is None:
            with suppress(RequestException):
                self._status = int(self._answer.json()["StatusCode"])
        return self._status is not None

    def _look(self) -> None:
        """It may have ended while nobody waited; from here on somebody does."""
        about = self._docker.call(lambda client: client.inspect_container(self._container))
        state: dict[str, Any] = about["State"]
        if state["Status"] in _OVER:
            self._status = int(state["ExitCode"])
