"""An answer of the daemon, passed on piece by piece for as long as the client stays."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

import httpx
from starlette.types import Receive, Send

_PASSED_ON: Final = ("content-type", "x-docker-container-path-stat")
# Docker's SDK reads an attached stream from the connection itself, without chunks and until that ends: so its
# answer has a length, which it does not reach.
_UNBOUNDED: Final = (b"content-length", b"%d" % sys.maxsize)


async def relay(answer: httpx.Response, receive: Receive, send: Send, *, raw: bool = False) -> bool:
    """Pass the answer on, its head at once; whether the client stayed as long as there was something to come.

    Where the daemon breaks off, the response is not completed: so the client sees that something is missing.
    A raw one is never completed: it ends with its connection.
    """
    headers = [
        (name.encode(), answer.headers[name].encode()) for name in _PASSED_ON if name in answer.headers
    ]
    raw = raw and answer.status_code == 200
    if raw:
        headers.append(_UNBOUNDED)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    pump = asyncio.create_task(_pump(answer, send, raw))
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not pump.done():
            return False
        await pump
        return True
    finally:
        pump.cancel()
        gone.cancel()
        await asyncio.gather(pump, gone, return_exceptions=True)


async def _pump(answer: httpx.Response, send: Send, raw: bool) -> None:
    with suppress(httpx.HTTPError):
        async for piece in answer.aiter_raw():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not raw:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
