"""Calls the Docker API with Docker's SDK; the calls survive a restart of the docker-proxy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException, create_api_error_from_http_exception
from requests import HTTPError, RequestException, Response
from urllib3 import exceptions

from fraud_airflow.jobs import JobFailed

RECONNECT_S: Final = 30.0  # the longest restart of the proxy
_CONNECT_S: Final = 60.0
_RETRY_INTERVAL_S: Final = 0.3

T = TypeVar("T")
StreamBroken = exceptions.HTTPError  # a stream ended prematurely


class DockerClient:
    """Repeats calls, which must be idempotent, until the proxy and the daemon answer.

    Args:
        connect: returns the client, always the same one; connects at the first call.
    """

    def __init__(self, connect: Callable[[], APIClient], patience_s: float = RECONNECT_S) -> None:
        self._connect = connect
        self._patience_s = patience_s

    def call(self, call: Callable[[APIClient], T], patience_s: float | None = None) -> T:
        """Return the result of `call`.

        Raises:
            APIError: the proxy or the daemon refused the call.
            JobFailed: they did not answer in time.
        """
        deadline = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            try:
                return call(self._connect())
            except (RequestException, DockerException, StreamBroken) as error:
                if isinstance(error, APIError) and error.status_code != 502:
                    raise
                if time.monotonic() > deadline:
                    raise JobFailed(
                        f"The Docker proxy does not answer ({explanation(error)}): does docker-proxy run?"
                    ) from None
            time.sleep(_RETRY_INTERVAL_S)

    def open(self, method: str, path: str, **params: str) -> Response:
        """Open a streamed response as soon as its head has arrived, which the SDK's own calls cannot do.

        Raises:
            APIError, JobFailed: likewise.
        """

        def call(client: APIClient) -> Response:
            url = f"{client.base_url}/v{client.api_version}{path}"
            answer: Response = client.request(
                method, url, params=params, stream=True, timeout=(_CONNECT_S, None)
            )
            try:
                answer.raise_for_status()
            except HTTPError as error:
                create_api_error_from_http_exception(error)
            return answer

        return self.call(call)

    def frames(self, answer: Response) -> Iterator[bytes]:
        """The frames of a log.

        Raises:
            Broken: the connection is gone.
        """
        # The SDK's `logs` cannot be used: its streams end in the same way whether complete or broken.
        frames: Iterator[bytes] = self._connect()._multiplexed_response_stream_helper(answer)
        return frames


def explanation(error: Any) -> str:
    """The message of the daemon or the proxy, without its full stop."""
    message = error.explanation if isinstance(error, APIError) else error
    return " ".join(str(message).split())[:1000].rstrip(".")
