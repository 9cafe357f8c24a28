"""How much of a request body is read. The limit is counted on what arrives, not on what a header says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_api.problems import Problem

BODY_SECONDS: Final = 30.0  # a body that trickles in for longer is given up
# A client that is still sending would see a broken connection instead of the answer, so what is over the
# limit is read and dropped for a while.
DRAIN_BYTES: Final = 64_000_000
DRAIN_SECONDS: Final = 5.0


class BodyLimit:
    """ASGI middleware: a body over the limit is answered with 413, a body that does not come with 408.

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
        if _declared_length(scope) > limit:
            await _drain(receive)
            await _too_large(limit).response()(scope, receive, send)
            return
        await self._app(scope, _Counted(receive, limit), send)


class _Counted:
    """`receive` that counts bytes and waits for a body no longer than `BODY_SECONDS`."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        self._complete = False
        self._deadline = 0.0

    async def __call__(self) -> Message:
        message = await self._receive() if not self._deadline else await self._receive_in_time()
        if message["type"] != "http.request":
            return message
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            await _drain(self._receive)
            raise _too_large(self._limit)
        if message.get("more_body", False):
            self._deadline = self._deadline or monotonic() + BODY_SECONDS
        else:
            self._deadline = 0.0
        return message

    async def _receive_in_time(self) -> Message:
        try:
            async with asyncio.timeout(self._deadline - monotonic()):
                return await self._receive()
        except TimeoutError:
            raise Problem(
                408, "The request's body did not arrive in time.", headers={"Connection": "close"}
            ) from None


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _too_large(limit: int) -> Problem:
    return Problem(413, f"The body is larger than {limit} bytes.", headers={"Connection": "close"})


async def _drain(receive: Receive) -> None:
    dropped = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped < DRAIN_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                dropped += len(message.get("body", b""))
    except TimeoutError:
        return
