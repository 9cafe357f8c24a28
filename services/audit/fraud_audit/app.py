"""Builds the ASGI application: routes, error pages and middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_adapters.job.failures import PassingFailure
from fraud_adapters.job.logs import get_logger
from fraud_audit.context import App
from fraud_audit.metrics import MeasureRequests
from fraud_audit.pages import case_pages, dashboard, health, lists, login, operations, overview
from fraud_audit.refusals import LogInNeeded, PageRefused
from fraud_audit.rendering import HERE, page
from fraud_audit.security import SecurityHeaders

_PAGES: Final = (health, login, overview, dashboard, lists, case_pages, operations)
_SENTENCES: Final = {404: "There is no such page.", 405: "This page cannot be used in that way."}
_DATABASE_AWAY: Final = (
    "The database does not answer. Nothing you did before is lost; this page works again when it is back."
)
_TOO_SLOW: Final = "This search took too long: narrow it down, for example by days."


def create_app(app: App, start: Callable[[], None], stop: Callable[[], None]) -> FastAPI:
    """The application; `start` and `stop` run around its life."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        start()
        try:
            yield
        finally:
            stop()

    application = FastAPI(
        title="Fraud audit",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    application.state.app = app
    for module in _PAGES:
        application.include_router(module.router)
    application.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    _install_error_pages(application)
    application.add_middleware(CatchErrors)
    application.add_middleware(GZipMiddleware, minimum_size=2000)
    application.add_middleware(SecurityHeaders, secure=app.settings.secure)
    application.add_middleware(MeasureRequests, metrics=app.metrics)
    return application


class CatchErrors:
    """ASGI middleware: a bug is logged and answered with a page, which gets all headers of other pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def observed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            request = Request(scope)
            get_logger(__name__).error("page_failed", path=request.url.path, exc_info=error)
            response = _error(request, 500, "Something went wrong here; it is in the log.")
            await response(scope, receive, send)


def _install_error_pages(application: FastAPI) -> None:
    def log_in_needed(request: Request, _: Any) -> Response:
        if request.method != "GET":
            return _to_login(request, "/")
        query = f"?{request.url.query}" if request.url.query else ""
        return _to_login(request, f"{request.url.path}{query}")

    def refused(request: Request, error: Any) -> Response:
        return _error(request, error.status, str(error))

    def http_error(request: Request, error: Any) -> Response:
        return _error(request, error.status_code, _SENTENCES.get(error.status_code, "This request failed."))

    def invalid(request: Request, _: Any) -> Response:
        return _error(request, 404, _SENTENCES[404])

    def unavailable(request: Request, error: Any) -> Response:
        slow = "statement timeout" in str(error)
        get_logger(__name__).warning("page_unavailable", path=request.url.path, reason=str(error))
        return _error(request, 503, _TOO_SLOW if slow else _DATABASE_AWAY)

    application.add_exception_handler(LogInNeeded, log_in_needed)
    application.add_exception_handler(PageRefused, refused)
    application.add_exception_handler(HTTPException, http_error)
    application.add_exception_handler(RequestValidationError, invalid)
    application.add_exception_handler(PassingFailure, unavailable)


def _to_login(request: Request, target: str) -> Response:
    address = "/login" if target == "/" else f"/login?next={quote(target, safe='/')}"
    if request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"hx-redirect": "/login"})
    return RedirectResponse(address, 303)


def _error(request: Request, status: int, sentence: str) -> Response:
    template = "_problem.html" if request.headers.get("hx-request") == "true" else "error.html"
    return page(request, template, {"status": status, "sentence": sentence}, status=status)
