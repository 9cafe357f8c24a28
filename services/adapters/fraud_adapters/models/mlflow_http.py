"""MLflow's REST API over plain HTTP: importing MLflow itself costs three seconds and hundreds of MB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

import httpx

from fraud_adapters.job.failures import PassingFailure

CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 2.0
_ABSENT: Final = "RESOURCE_DOES_NOT_EXIST"


class RegistryUnavailable(PassingFailure):
    """The registry does not answer, or answers with an error; the sentence names its address."""


class MlflowHttp:
    """Requests to one MLflow server; safe to use from several threads.

    Args:
        tracking_uri: MLflow's address, for example `http://mlflow:5000`.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri.rstrip("/")
        self._http = httpx.Client(timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS))

    def get(self, route: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        """The JSON response of a route, or None if the resource does not exist.

        Raises:
            RegistryUnavailable: no valid response within about three seconds.
        """
        return self._answer(self.request("GET", f"{self._api}/{route}", params=dict(query)))

    def post(
        self, route: str, body: Mapping[str, Any], seconds: float = READ_SECONDS
    ) -> dict[str, Any] | None:
        """As `get`, with a JSON body."""
        return self._answer(self.request("POST", f"{self._api}/{route}", seconds, json=dict(body)))

    def request(self, method: str, url: str, seconds: float = READ_SECONDS, **content: Any) -> httpx.Response:
        """The server's response, whatever its status.

        Raises:
            RegistryUnavailable: the server did not respond in time.
        """
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            return self._http.request(method, url, timeout=timeout, **content)
        except httpx.HTTPError as error:
            raise RegistryUnavailable(
                f"MLflow at {self.uri} does not answer ({type(error).__name__})."
            ) from None

    @contextmanager
    def stream(self, url: str, seconds: float) -> Iterator[httpx.Response]:
        """The server's response, whatever its status, whose body is read while it arrives.

        Raises:
            RegistryUnavailable: the server did not respond in time, or a piece of the body did not arrive.
        """
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            with self._http.stream("GET", url, timeout=timeout) as response:
                yield response
        except httpx.HTTPError as error:
            raise RegistryUnavailable(
                f"MLflow at {self.uri} does not answer ({type(error).__name__})."
            ) from None

    def refused(self, response: httpx.Response) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"MLflow at {self.uri} answered {response.status_code} to {response.request.url.path}."
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def _api(self) -> str:
        return f"{self.uri}/api/2.0/mlflow"

    def _answer(self, response: httpx.Response) -> dict[str, Any] | None:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self.refused(response)
        if response.status_code == httpx.codes.OK:
            return body
        # MLflow reports a missing alias as an invalid parameter.
        message = str(body.get("message", ""))
        if body.get("error_code") == _ABSENT or ("alias" in message and "not found" in message):
            return None
        raise self.refused(response)
