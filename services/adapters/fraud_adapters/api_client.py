"""The jobs' client of the scoring API: sends batches and receives predictions.

It uses urllib3 rather than httpx: a request costs a tenth of a millisecond instead of a whole one, which
matters for batches of 100. It ignores proxy variables, so that local addresses are never sent to a proxy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import urllib3

from config.settings import ApiClientSettings
from fraud_adapters.columnar import MEDIA_TYPE, ColumnarAnswer, ColumnarError, answer_from_ipc, batch_to_ipc
from fraud_adapters.job.failures import PassingFailure, RefusedFailure
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import PredictedRows

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


class ApiClient:
    """Scores batches over one persistent connection; for use by one thread at a time.

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
        self._url = settings.url
        self._client_id = settings.api_client_id
        self._secret = settings.api_client_secret
        self._clock = clock
        self._pause = pause
        self._token = ""
        self._renew_at = float("-inf")
        self._pool = urllib3.PoolManager(
            maxsize=1, retries=False, timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
        )

    def score(
        self, contract: Contract, batch: Batch, traceparents: Sequence[str | None] | None = None
    ) -> list[PredictedRows]:
        """Score a batch, of which a canary may have scored some rows; the API stores nothing.

        Args:
            traceparents: per transaction its trace context, which is kept with the prediction.

        Raises:
            ApiUnavailable: no useful answer after several attempts.
            ApiRefused: the batch or the credentials were refused.
        """
        started = time.perf_counter()
        body = self._post_authorised("/predict/batch", batch_to_ipc(contract, batch))
        answer = self._read(contract, batch, body)
        elapsed = (time.perf_counter() - started) * 1000
        traces = traceparents or [None] * len(batch)
        return [
            PredictedRows(part.rows, part.predictions.stamped(elapsed, [traces[row] for row in part.rows]))
            for part in answer.parts
        ]

    def check(self) -> None:
        """Fetch a token: proves that the API answers and knows this client. Raises as `score`."""
        self._renew()

    def require_alive(self) -> None:
        """Ask whether the API answers, without a token.

        Raises:
            ApiUnavailable: no useful answer after several attempts.
        """
        status, response = self._send("GET", "/health/live")
        if status != 200:
            raise ApiUnavailable(
                f"{self._url} is not the scoring API, it answered {_detail(status, response)}"
            )

    def close(self) -> None:
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, contract: Contract, batch: Batch, body: bytes) -> ColumnarAnswer:
        try:
            response = answer_from_ipc(body, len(contract.features), len(batch))
        except ColumnarError as error:
            raise ApiUnavailable(
                f"The API at {self._url} returned a response that cannot be read: {error}"
            ) from None
        if response.ids != batch.ids:
            raise ApiUnavailable(f"The API at {self._url} returned predictions for other transactions.")
        return response

    def _post_authorised(self, path: str, body: bytes) -> bytes:
        if self._clock() >= self._renew_at:
            self._renew()
        status, response = self._post(path, body, self._headers())
        if status == 401:  # revoked, or signed with a key that was retired early
            self._renew()
            status, response = self._post(path, body, self._headers())
        if status != 200:
            raise ApiRefused(f"The API refuses the request: {_detail(status, response)}")
        return response

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Content-Type": MEDIA_TYPE}

    def _renew(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret.get_secret_value(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        requested_at = self._clock()
        status, response = self._post("/auth/token", urlencode(form).encode(), headers)
        if status != 200:
            raise ApiRefused(
                f"The API gives the client {self._client_id} no token, check API_CLIENT_ID and "
                f"API_CLIENT_SECRET: {_detail(status, response)}"
            )
        try:
            document = json.loads(response)
            self._token = str(document["access_token"])
            lifetime = float(document["expires_in"])
        except (ValueError, TypeError, KeyError):
            raise ApiUnavailable(
                f"{self._url}/auth/token returned no token: is API_URL the scoring API?"
            ) from None
        # A token whose lifetime is shorter than the margin is renewed after half of it.
        self._renew_at = requested_at + max(lifetime - RENEW_BEFORE, lifetime / 2)

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        return self._send("POST", path, body=body, headers=dict(headers))

    def _send(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        """Status and body of the response; retries passing failures.

        Raises:
            ApiUnavailable: all attempts failed.
        """
        for delay in (*RETRY_DELAYS, None):
            try:
                response = self._pool.request(method, self._url + path, **content)
            except urllib3.exceptions.HTTPError as error:
                problem = f"The API at {self._url} does not answer: {_one_line(error)}."
            else:
                if response.status < 500 and response.status not in _PASSING:
                    return response.status, response.data
                problem = f"The API at {self._url} is not ready: {_detail(response.status, response.data)}"
            if delay is not None:
                self._pause(delay)
        raise ApiUnavailable(problem)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    # urllib3 puts the connection object's repr first.
    return text.rpartition("): ")[2].rstrip(".") or type(error).__name__


def _detail(status: int, body: bytes) -> str:
    """The detail of a problem document, as a sentence."""
    try:
        document: Any = json.loads(body)
        detail = document.get("detail") or document.get("error_description") or document.get("title")
    except (ValueError, AttributeError):
        detail = None
    text = " ".join(str(detail).split())[:300].rstrip(".") if detail else "no reason given"
    return f"{status}, {text}."
