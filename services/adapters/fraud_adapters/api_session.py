"""Requests to the scoring API as a client with a token of its own, which is renewed before it expires.

It uses urllib3 rather than httpx: a request costs a tenth of a millisecond instead of a whole one, which
matters for batches of 100. It ignores proxy variables, so that local addresses are never sent to a proxy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import urllib3

from config.settings import ApiClientSettings
from fraud_adapters.job.failures import PassingFailure, RefusedFailure

RETRY_DELAYS: Final = (0.1, 0.3, 0.9, 2.0)  # seconds before each further attempt
CONNECT_TIMEOUT: Final = 3.0
READ_TIMEOUT: Final = 30.0
RENEW_BEFORE: Final = 30.0  # seconds a token must still be valid when it is sent
# These 4xx statuses describe the state of the service, as 5xx do; all others mean that the request is wrong.
_PASSING: Final = frozenset({408, 429})


class ApiUnavailable(PassingFailure):
    """The API does not answer, or is temporarily unable to; one sentence."""


class ApiRefused(RefusedFailure):
    """The API refuses the request, and would refuse a retry; one sentence with the detail of its problem."""


class ApiSession:
    """One persistent connection with a token; for use by one thread at a time.

    Args:
        settings: where the API is and the client's credentials.
        clock: monotonic seconds; decides when a token is renewed.
        pause: sleeps between attempts.
    """

    def __init__(
        self,
        settings: ApiClientSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = settings.url
        self._client_id = settings.api_client_id
        self._secret = settings.api_client_secret
        self._clock = clock
        self._pause = pause
        self._token = ""
        self._renew_at = float("-inf")
        self._pool = urllib3.PoolManager(
            maxsize=1, retries=False, timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
        )

    def authorised(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        """Status and body of the response to a request with a token; retries passing failures.

        Args:
            content: `body` and `headers` as urllib3 takes them.

        Raises:
            ApiUnavailable: no useful answer after several attempts.
            ApiRefused: the credentials were refused.
        """
        headers: Mapping[str, str] = content.pop("headers", {})
        if self._clock() >= self._renew_at:
            self.renew()
        status, response = self.send(method, path, headers=self._with_token(headers), **content)
        if status == 401:  # revoked, or signed with a key that was retired early
            self.renew()
            status, response = self.send(method, path, headers=self._with_token(headers), **content)
        return status, response

    def renew(self) -> None:
        """Fetch a token: proves that the API answers and knows this client. Raises as `authorised`."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret.get_secret_value(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        requested_at = self._clock()
        status, response = self.send("POST", "/auth/token", body=urlencode(form).encode(), headers=headers)
        if status != 200:
            raise ApiRefused(
                f"The API gives the client {self._client_id} no token, check API_CLIENT_ID and "
                f"API_CLIENT_SECRET: {detail(status, response)}"
            )
        try:
            document = json.loads(response)
            self._token = str(document["access_token"])
            lifetime = float(document["expires_in"])
        except (ValueError, TypeError, KeyError):
            raise ApiUnavailable(
                f"{self.url}/auth/token returned no token: is API_URL the scoring API?"
            ) from None
        # A token whose lifetime is shorter than the margin is renewed after half of it.
        self._renew_at = requested_at + max(lifetime - RENEW_BEFORE, lifetime / 2)

    def send(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        """Status and body of the response; retries passing failures.

        Raises:
            ApiUnavailable: all attempts failed.
        """
        for delay in (*RETRY_DELAYS, None):
            try:
                response = self._pool.request(method, self.url + path, **content)
            except urllib3.exceptions.HTTPError as error:
                problem = f"The API at {self.url} does not answer: {_one_line(error)}."
            else:
                if response.status < 500 and response.status not in _PASSING:
                    return response.status, response.data
                problem = f"The API at {self.url} is not ready: {detail(response.status, response.data)}"
            if delay is not None:
                self._pause(delay)
        raise ApiUnavailable(problem)

    def close(self) -> None:
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _with_token(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**headers, "Authorization": f"Bearer {self._token}"}


def detail(status: int, body: bytes) -> str:
    """The detail of a problem document, as a sentence."""
    try:
        document: Any = json.loads(body)
        text = document.get("detail") or document.get("error_description") or document.get("title")
    except (ValueError, AttributeError):
        text = None
    words = " ".join(str(text).split())[:300].rstrip(".") if text else "no reason given"
    return f"{status}, {words}."


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    # urllib3 puts the connection object's repr first.
    return text.rpartition("): ")[2].rstrip(".") or type(error).__name__
