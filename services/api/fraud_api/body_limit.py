"""Limits on request bodies: their size and the time to receive them.

The size is counted on the received bytes; a header is not trusted.
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
# A client that is still sending would see a broken connection instead of the response, so unread parts of a
# body are received and discarded, within these limits.
DRAIN_BYTES: Final = 64_000_000
DRAIN_SECONDS: Final = 5.0
# Key in the ASGI scope of a request whose client disconnected before the end of the body.
CLIENT_LEFT: Final = "fraud_api.client_left"
AWAITED: Final = "fraud_api.awaited"  # key in the ASGI scope: seconds spent waiting for the body


class BodyLimit:
    """ASGI middleware: responds with 413 to a body over the limit, with 408 to one that does not arrive in
    time, and with 400 to one that ends too early (which a client sees only if its body is malformed).

    Args:
        limit: the maximum size of a body, in bytes.
        by_path: limits of particular paths.
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
        # With `Expect: 100-continue` the client sends the body only when the application reads it.
        body = _Body(scope, receive, limit, more_expected=has_body and b"expect" not in headers)

        async def send_after_draining(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        if length.isdigit() and int(length) > limit:
            await _too_large(limit).response()(scope, receive, send_after_draining)
            return
        await self._app(scope, body.receive, send_after_draining)


class _Body:
    """The body of one request, as the application receives it."""

    def __init__(self, scope: Scope, receive: Receive, limit: int, *, more_expected: bool) -> None:
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self._more_expected = more_expected  # the client is sending more, whether or not it is read
        self._received = 0
        self._finished = False  # nothing more is to be read
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        """The next message of the body.

        Raises:
            Problem: 408, 413 or 400; see `BodyLimit`.
        """
        if self._finished:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._next()
        except TimeoutError:
            self._finished = True
            raise _closing(408, "The request's body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            self._finished = True
            raise self._client_left()
        self._received += len(message.get("body", b""))
        self._more_expected = message.get("more_body", False)
        self._finished = not self._more_expected
        if self._received > self._limit:
            raise _too_large(self._limit)
        return message

    async def drain(self) -> None:
        """Receive and discard the unread rest, within limits, unless the client waits for `100 Continue`."""
        if self._finished or not self._more_expected:
            return
        self._finished = True
        discarded = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while discarded < DRAIN_BYTES:
                    message = await self._next()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    discarded += len(message.get("body", b""))
        except TimeoutError:
            return

    async def _next(self) -> Message:
        started = perf_counter()
        try:
            return await self._receive()
        finally:
            self._scope[AWAITED] = self._scope.get(AWAITED, 0.0) + perf_counter() - started

    def _client_left(self) -> Problem:
        self._scope[CLIENT_LEFT] = True
        get_logger(__name__).debug("client_left", path=self._scope["path"][:200], received=self._received)
        return _closing(400, "The body ended before it was complete, or its chunks are malformed.")


def _too_large(limit: int) -> Problem:
    return _closing(413, f"The body is larger than {limit} bytes.")


def _closing(status: int, detail: str) -> Problem:
    return Problem(status, detail, headers={"Connection": "close"})
