"""Errors as RFC 9457 problem documents. They never repeat values that the client sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_core.traceparent import parse_traceparent

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """An error response.

    Args:
        status: HTTP status, 4xx or 5xx.
        detail: one sentence for people, without any value the client sent.
        headers: further response headers.
        members: further members of the document, such as `errors`.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return Response(orjson.dumps(document), self.status, self.headers, MEDIA_TYPE)


class RecordError(BaseModel):
    """The error of one record of a request."""

    index: int = Field(ge=0, description="place of the record in the request, from 0")
    reason: str = Field(examples=["wrong_type"])
    detail: str = Field(examples=["amount: Input should be a valid number."])


class ProblemDocument(BaseModel):
    """RFC 9457 problem document."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[RecordError] | None = None


def json_response(document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A successful response, serialised directly, without a pydantic model."""
    return Response(orjson.dumps(document), 200, dict(headers or {}), "application/json")


def unavailable(detail: str) -> Problem:
    """503: a dependency of this service is unavailable at the moment."""
    return Problem(503, detail, headers={"Retry-After": "1"})


def install(app: FastAPI) -> None:
    """Make the application return every error as a problem document."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _unexpected)


def response_to(request: Request, error: Exception) -> Response:
    """The response to an error that is one of `HANDLED`."""
    return next(handler for kind, handler in _HANDLERS.items() if isinstance(error, kind))(request, error)


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    if error.status >= 500:
        get_logger(__name__).warning("request_not_served", detail=error.detail, **_log_fields(request))
    return error.response()


def _database_unavailable(request: Request, _error: Exception) -> Response:
    return _problem(request, unavailable("The database does not answer."))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    detail = details.get(error.status_code, HTTPStatus(error.status_code).phrase)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return Problem(error.status_code, detail, headers=headers).response()


def _allowed(request: Request) -> list[str]:
    """The methods of every route at the request's path; the router names those of the first one only."""
    methods = {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    if "GET" in methods:
        methods.add("HEAD")  # AnswerHead handles it wherever GET is allowed
    return sorted(methods)


def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The default handler echoes the input, and a NaN or a lone surrogate in it breaks the response.
    fields = {".".join(str(part) for part in one["loc"])[:100] for one in error.errors()}
    names = ", ".join(sorted(field.encode("ascii", "backslashreplace").decode() for field in fields))
    return Problem(422, f"The request is not valid: {names[:300]}.").response()


_HANDLERS: Final[Mapping[type[Exception], Callable[[Request, Exception], Response]]] = {
    Problem: _problem,
    DatabaseUnavailable: _database_unavailable,
    HTTPException: _http,
    RequestValidationError: _validation,
}
HANDLED: Final = tuple(_HANDLERS)
"""Errors that have a response of their own; any other one is a failure of the service."""


def _unexpected(request: Request, error: Exception) -> Response:
    get_logger(__name__).error("request_failed", exc_info=error, **_log_fields(request))
    return Problem(500, "The request could not be processed; the service's log says why.").response()


def _log_fields(request: Request) -> dict[str, str]:
    """The fields of a log line that identify a request; its trace only if it is valid."""
    traceparent = parse_traceparent(request.headers.get("traceparent"))
    return {"path": request.url.path[:200]} | ({"traceparent": traceparent} if traceparent else {})
