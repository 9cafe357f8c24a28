"""MLflow's REST API over plain HTTP: importing MLflow itself costs three seconds and hundreds of MB."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, Self

import httpx

from fraud_adapters.job.failures import ConfigurationFailure, JobFailed, PassingFailure, RefusedFailure

CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 2.0
_ABSENT: Final = "RESOURCE_DOES_NOT_EXIST"


class RegistryFailure(JobFailed):
    """The base class: a request to the registry failed."""


class RegistryUnavailable(RegistryFailure, PassingFailure):
    """The registry does not answer, or answers with an error; the sentence names its address."""


class LoginRefused(RegistryFailure, ConfigurationFailure):
    """The registry does not accept the user and password: no retry helps until a variable is corrected."""


class RequestForbidden(RegistryFailure, RefusedFailure):
    """The registry does not let this user do that."""


def environment_login() -> tuple[str, str]:
    """User and password of this process, from the variables that MLflow's own client reads too."""
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(name, "") for name in names)
    return user, password


def refusal(uri: str, status: int, path: str, user: str) -> RegistryFailure:
    """The failure that corresponds to a status other than 200."""
    if status == httpx.codes.UNAUTHORIZED:
        return LoginRefused(
            f"MLflow at {uri} does not accept the password of the user {user or '(none)'}: "
            "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    if status == httpx.codes.FORBIDDEN:
        return RequestForbidden(
            f"MLflow at {uri} answered 403 to {path}: the user {user} has no right to it "
            "(docs/mlflow.md), or MLFLOW_ALLOWED_HOSTS does not contain this address."
        )
    return RegistryUnavailable(f"MLflow at {uri} answered {status} to {path}.")


@cache
def _trusted_authorities() -> ssl.SSLContext:
    """Read once in a process, because that takes 30 ms and a job has several clients."""
    return httpx.create_ssl_context()


class MlflowHttp:
    """Requests to one MLflow server; safe to use from several threads.

    Args:
        tracking_uri: MLflow's address, for example `http://mlflow:5000`.
        login: user and password; those of the environment if not given.
    """

    def __init__(self, tracking_uri: str, login: tuple[str, str] | None = None) -> None:
        self.uri = tracking_uri.rstrip("/")
        login = login or environment_login()
        self._user = login[0]
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(auth=login, timeout=timeout, verify=_trusted_authorities())

    def get(
        self, route: str, query: Mapping[str, str], seconds: float = READ_SECONDS
    ) -> dict[str, Any] | None:
        """The JSON response of a route, or None if the resource does not exist.

        Raises:
            RegistryUnavailable: no valid response within about `seconds`.
            LoginRefused, RequestForbidden: the log-in or the request is refused.
        """
        return self._answer(self.request("GET", f"{self._api}/{route}", seconds, params=dict(query)))

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

    def refused(self, response: httpx.Response) -> RegistryFailure:
        return refusal(self.uri, response.status_code, response.request.url.path, self._user)

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
