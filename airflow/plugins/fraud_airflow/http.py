"""JSON over HTTP for hooks; every error is one sentence that names the service."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow.sdk.exceptions import AirflowException

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 30.0
_SHOWN: Final = 300  # characters of another service's message


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`document` is None if the body is empty or not JSON; `text` is a plain-text body."""

    status: int
    document: Any
    text: str = ""

    @property
    def detail(self) -> str:
        """The error in the response: status and message of its problem document (RFC 9457)."""
        document = self.document if isinstance(self.document, dict) else {}
        reason = document.get("detail") or document.get("message") or document.get("title") or self.text
        sentences = [str(reason or "no reason given"), *_first_error(document)]
        return f"{self.status}, {'; '.join(_one_line(text) for text in sentences)}"


@dataclass(frozen=True, slots=True)
class HttpService:
    """Another service: messages begin with `name`; `fix` says where its address is set."""

    name: str
    url: str
    fix: str

    @property
    def title(self) -> str:
        return f"{self.name} at {self.url}"

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> HttpAnswer:
        """Send one request; every status is a valid response.

        Args:
            seconds: the time limit of the response.

        Raises:
            AirflowException: no connection, or no answer in time.
        """
        import httpx

        # httpx logs a line for each request, which would obscure the task's own log.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            # Ignore proxies of the environment: these services are on our own network.
            with httpx.Client(timeout=timeout, trust_env=False) as client:
                answer = client.request(
                    method, self.url + path, headers=headers, params=params, json=json, data=form
                )
        except httpx.TimeoutException as error:
            limit = CONNECT_SECONDS if isinstance(error, httpx.ConnectTimeout) else seconds
            raise AirflowException(
                f"{self.title} did not answer {method} {path} within {limit:g} seconds."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AirflowException(f"{self.title} cannot be reached: {_reason(error)}; {self.fix}") from None
        plain = answer.headers.get("content-type", "").startswith("text/plain")
        return HttpAnswer(answer.status_code, _document(answer.content), answer.text if plain else "")

    def unexpected_answer(self, description: str) -> AirflowException:
        """The error for a response that this service should not give."""
        return AirflowException(f"{self.title} gave {description}; {self.fix}")


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _first_error(document: Mapping[str, Any]) -> list[str]:
    """The first invalid record of the request, in the format of the scoring API."""
    match document.get("errors"):
        case [{"index": index, "detail": detail}, *rest]:
            more = f" (and {len(rest)} more)" if rest else ""
            return [f"record {index}: {_one_line(detail)}{more}"]
    return []


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:_SHOWN].rstrip(".")


def _reason(error: Exception) -> str:
    """The reason, without the request: httpx's messages about malformed requests repeat headers and
    addresses."""
    import httpx

    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return "its address is malformed"
    if isinstance(error, httpx.LocalProtocolError):
        return "the request cannot be sent as it is"
    return _one_line(error) or type(error).__name__
