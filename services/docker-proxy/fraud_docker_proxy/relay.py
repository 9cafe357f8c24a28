"""Forwards a response of the daemon chunk by chunk, as long as the client stays connected."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

import httpx
from starlette.types import Receive, Send

_PASSED_ON: Final = ("content-type", "x-docker-container-path-stat")
# Docker's SDK reads an attached stream from the raw socket until the connection ends. A content length that
# is never reached prevents chunked encoding.
_UNBOUNDED: Final = (b"content-length", b"%d" % sys.maxsize)


async def relay(answer: httpx.Response, receive: Receive, send: Send, *, raw: bool = False) -> bool:
    """Forward the response; return whether the client stayed connected to its end.

    If the daemon breaks off, the response is left incomplete so that the client notices the missing part. A
    raw response is never completed: it ends with its connection.
    """
    headers = [
        (name.encode(), answer.headers[name].encode()) for name in _PASSED_ON if name in answer.headers
    ]
    raw = raw and answer.status_code == 200
    if raw:
        headers.append(_UNBOUNDED)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    pump = asyncio.create_task(_pump(answer, send, raw))
    disconnect = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({pump, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not pump.done():
            return False
        await pump
        return True
    finally:
        pump.cancel()
        disconnect.cancel()
        await asyncio.gather(pump, disconnect, return_exceptions=True)


async def _pump(answer: httpx.Response, send: Send, raw: bool) -> None:
    with suppress(httpx.HTTPError):
        async for chunk in answer.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not raw:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
