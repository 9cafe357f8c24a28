"""An answer of the daemon, passed on piece by piece for as long as the client stays."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
from starlette.types import Receive, Send


async def relay(answer: httpx.Response, receive: Receive, send: Send) -> bool:
    """Pass the answer on, its head at once; whether the client stayed as long as there was something to come.

    Where the daemon breaks off, the response is not completed: so the client sees that something is missing.
    """
    kind = answer.headers.get("content-type", "application/octet-stream")
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    pump = asyncio.create_task(_pump(answer, send))
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


async def _pump(answer: httpx.Response, send: Send) -> None:
    with suppress(httpx.HTTPError):
        async for piece in answer.aiter_raw():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
