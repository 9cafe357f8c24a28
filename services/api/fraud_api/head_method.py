"""The HEAD method."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class AnswerHead:
    """ASGI middleware: handles HEAD like GET; the server omits the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send)
        finally:
            scope["method"] = "HEAD"  # the metrics count the original method
