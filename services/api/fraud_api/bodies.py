"""How request bodies are read: how much, for how long, and what becomes of those that never end.

The limit is counted on what arrives, not on what a header says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_adapters.job.logs import get_logger
from fraud_api.problems import Problem

BODY_SECONDS: Final = 30.0  # from the request's head to the last byte of its body
# A client that is still sending would see a broken connection instead of the answer, so what nobody reads is
# received and dropped for a while.
DRAIN_BYTES: Final = 64_000_000
DRAIN_SECONDS: Final = 5.0
# In the scope of a request whose client left before the body's end.
CLIENT_LEFT: Final = "fraud_api.client_left"
AWAITED: Final = "fraud_api.awaited"  # seconds in which a request's body was awaited


class BodyLimit:
    """ASGI middleware: a body over the limit is answered with 413, one that does not come with 408, and one
    that ends too early with 400, which only a client with a malformed body is there to read.

    Args:
        limit: bytes of a body.
        by_path: other limits for some paths.
    """

    def __init__(self, app: ASGIApp, limit: int, by_path: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._by_path.get(scope["path"], self._limit)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        has_body = length != b"0" or b"transfer-encoding" in headers
        # With `Expect: 100-continue` it is sent once somebody reads it.
        body = _Body(scope, receive, limit, coming=has_body and b"expect" not in headers)

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        if length.isdigit() and int(length) > limit:
            await _too_large(limit).response()(scope, receive, answered)
            return
        await self._app(scope, body.receive, answered)


class _Body:
    """The body of one request, as its application receives it."""

    def __init__(self, scope: Scope, receive: Receive, limit: int, *, coming: bool) -> None:
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self._coming = coming  # more is on its way, whether anybody reads it or not
        self._seen = 0
        self._over = False  # there is nothing more to read
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        """The next part.

        Raises:
            Problem: 408, 413 or 400; see `BodyLimit`.
        """
        if self._over:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._next()
        except TimeoutError:
            self._over = True
            raise _closing(408, "The request's body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            self._over = True
            raise self._left()
        self._seen += len(message.get("body", b""))
        self._coming = message.get("more_body", False)
        self._over = not self._coming
        if self._seen > self._limit:
            raise _too_large(self._limit)
        return message

    async def drain(self) -> None:
        """Read what was left unread, within bounds, unless the client waits to be asked for it."""
        if self._over or not self._coming:
            return
        self._over = True
        dropped = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while dropped < DRAIN_BYTES:
                    message = await self._next()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    dropped += len(message.get("body", b""))
        except TimeoutError:
            return

    async def _next(self) -> Message:
        started = perf_counter()
        try:
            return await self._receive()
        finally:
            self._scope[AWAITED] = self._scope.get(AWAITED, 0.0) + perf_counter() - started

    def _left(self) -> Problem:
        self._scope[CLIENT_LEFT] = True
        get_logger(__name__).debug("client_left", path=self._scope["path"][:200], received=self._seen)
        return _closing(400, "The body ended before it was complete, or its chunks are malformed.")


def _too_large(limit: int) -> Problem:
    return _closing(413, f"The body is larger than {limit} bytes.")


def _closing(status: int, detail: str) -> Problem:
    return Problem(status, detail, headers={"Connection": "close"})
