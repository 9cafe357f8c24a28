"""An answer of the daemon, passed on piece by piece for as long as the client stays."""

from __future__ import annotations

import asyncio
from enum import Enum, auto

import httpx
from starlette.types import Receive, Send


class Outcome(Enum):
    """Who ended it."""

    COMPLETE = auto()
    CLIENT_GONE = auto()
    DAEMON_GONE = auto()


async def relay(answer: httpx.Response, receive: Receive, send: Send) -> Outcome:
    """Pass the answer on, its head at once.

    After DAEMON_GONE the response is not completed, so that the client sees that something is missing.
    """
    kind = answer.headers.get("content-type", "application/octet-stream")
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    pump, gone = asyncio.create_task(_pump(answer, send)), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not pump.done():
            return Outcome.CLIENT_GONE
        return Outcome.COMPLETE if await pump else Outcome.DAEMON_GONE
    finally:
        pump.cancel()
        gone.cancel()
        await asyncio.gather(pump, gone, return_exceptions=True)


async def _pump(answer: httpx.Response, send: Send) -> bool:
    try:
        async for piece in answer.aiter_raw():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except httpx.HTTPError:
        return False
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
