"""Defaults for MLflow's web page, which stores its settings in the browser; the server has no options for
them.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Keys in the page's local storage, as MLflow 3 writes them. A choice the user has made is kept.
DEFAULTS: Final = {
    "mlflow.workflowType_v1": "machine_learning",  # otherwise the page opens on GenAI
    "mlflow.settings.telemetry.enabled_v1": False,  # otherwise it records every click
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,  # otherwise a chat window covers half of the page
}
_SCRIPT: Final = (
    "<head><script>"
    f"for (const [key, value] of Object.entries({json.dumps(DEFAULTS)}))"
    " if (localStorage.getItem(key) === null) localStorage.setItem(key, JSON.stringify(value));"
    "</script>"
).encode()
# A cached copy in the browser may be the unmodified page, so conditional requests and validators are removed.
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range"})
_VALIDATORS: Final = frozenset({b"etag", b"last-modified", b"accept-ranges", b"content-length"})


class PageDefaults:
    """An ASGI application that inserts the defaults into the page of another one, and forwards all other
    requests."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._application(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def with_defaults(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = bytes(body).replace(b"<head>", _SCRIPT, 1)
            headers = [(name, value) for name, value in start["headers"] if name.lower() not in _VALIDATORS]
            headers.append((b"content-length", str(len(page)).encode()))
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": page})

        unconditional = [(name, value) for name, value in scope["headers"] if name not in _CONDITIONS]
        await self._application({**scope, "headers": unconditional}, receive, with_defaults)
