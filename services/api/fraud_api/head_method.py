"""What can be had by GET can be asked by HEAD."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class AnswerHead:
    """ASGI middleware: HEAD is answered as GET would be; the server leaves the body out."""

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
            scope["method"] = "HEAD"  # as it is counted
