"""Calls of the Docker API that outlast a restart of the docker-proxy, by Docker's own SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException, create_api_error_from_http_exception
from requests import HTTPError, RequestException, Response
from urllib3 import exceptions

from fraud_airflow.jobs import JobFailed

RECONNECT_S: Final = 30.0  # as long as a restart of the proxy may take
_CONNECT_S: Final = 60.0
_AGAIN_S: Final = 0.3

T = TypeVar("T")
Broken = exceptions.HTTPError  # a stream ended before its end


class Docker:
    """Makes a call again, which must do no harm, until the proxy and the daemon answer.

    Args:
        connect: gives the client, the same each time, and connects when it is first called.
    """

    def __init__(self, connect: Callable[[], APIClient], patience_s: float = RECONNECT_S) -> None:
        self._connect = connect
        self._patience_s = patience_s

    def call(self, ask: Callable[[APIClient], T], patience_s: float | None = None) -> T:
        """What the call gives.

        Raises:
            APIError: they answered, and refused.
            JobFailed: they did not come back.
        """
        deadline = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            try:
                return ask(self._connect())
            except (RequestException, DockerException, Broken) as error:
                if isinstance(error, APIError) and error.status_code != 502:
                    raise
                if time.monotonic() > deadline:
                    raise JobFailed(
                        f"The Docker proxy does not answer ({explanation(error)}): does docker-proxy run?"
                    ) from None
            time.sleep(_AGAIN_S)

    def open(self, method: str, path: str, **params: str) -> Response:
        """An answer that comes bit by bit, from its head on, which the SDK's own calls do not show.

        Raises:
            APIError, JobFailed: likewise.
        """

        def ask(client: APIClient) -> Response:
            url = f"{client.base_url}/v{client.api_version}{path}"
            answer: Response = client.request(
                method, url, params=params, stream=True, timeout=(_CONNECT_S, None)
            )
            try:
                answer.raise_for_status()
            except HTTPError as error:
                create_api_error_from_http_exception(error)
            return answer

        return self.call(ask)

    def frames(self, answer: Response) -> Iterator[bytes]:
        """The frames of a log.

        Raises:
            Broken: the connection is gone.
        """
        # `logs` of the SDK cannot be used: a stream of it that breaks ends as a whole one does.
        frames: Iterator[bytes] = self._connect()._multiplexed_response_stream_helper(answer)
        return frames


def explanation(error: Any) -> str:
    """The daemon's or the proxy's sentence, without its full stop."""
    said = error.explanation if isinstance(error, APIError) else error
    return " ".join(str(said).split())[:1000].rstrip(".")
