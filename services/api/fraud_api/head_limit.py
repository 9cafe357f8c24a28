"""A limit on the size of a request's head."""

from __future__ import annotations

from itertools import chain
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from fraud_api.problems import Problem

MAX_HEAD_BYTES: Final = 65_536  # request line and headers, as sent
_REQUEST_LINE: Final = len("  HTTP/1.1\r\n\r\n")  # with the empty line at the end of the head
_HEADER: Final = len(": \r\n")


class HeadLimit:
    """ASGI middleware: responds with 431 to a longer head.

    The server has the same limit, but applies it only to a head that has not arrived completely.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _head_bytes(scope) > MAX_HEAD_BYTES:
            detail = f"The request line and the headers are longer than {MAX_HEAD_BYTES} bytes."
            problem = Problem(431, detail, headers={"Connection": "close"})
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _head_bytes(scope: Scope) -> int:
    headers = scope["headers"]
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    line = _REQUEST_LINE + len(scope["method"]) + target + (1 if scope["query_string"] else 0)
    return line + sum(map(len, chain.from_iterable(headers))) + _HEADER * len(headers)
