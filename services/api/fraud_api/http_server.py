"""The HTTP server: Granian, embedded in this process, with limits on heads, times and connections."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from contextlib import suppress
from typing import Final

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server import embed
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from fraud_adapters.job.logs import get_logger
from fraud_api.head_limit import MAX_HEAD_BYTES

HEAD_SECONDS: Final = 30  # time limit for a head; also closes idle keep-alive connections
READING_SECONDS: Final = 30  # the connection is dropped if the client reads nothing for this long
# Further connections wait in the backlog until one of these is closed.
MAX_CONNECTIONS: Final = 2_000
BACKLOG: Final = 2_048
STOP_SECONDS: Final = 20
_OTHER_FILES: Final = 200  # file descriptors for database, logs, models and metrics
# Granian's messages go to the root logger; only the level of its own configuration is used.
_LOGGING: Final = {"version": 1, "incremental": True, "handlers": {}, "loggers": {}}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, whose connections inherit its options.

    Raises:
        OSError: the port cannot be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READING_SECONDS * 1000)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def run(app: Starlette, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; then finish open requests, for at most `STOP_SECONDS`.

    Args:
        app: the application; its lifespan runs around all requests.
        listener: the socket from `listen`; the server takes ownership.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, listener))


async def _serve(app: Starlette, listener: socket.socket) -> None:
    stop_requested = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop_requested.set)
    async with app.router.lifespan_context(app):
        server = _Server(app, listener, _allowed_connections())
        serving = asyncio.create_task(server.serve())
        stop = asyncio.create_task(stop_requested.wait())
        await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait([serving], timeout=STOP_SECONDS)
        if not serving.done():
            get_logger(__name__).warning("connections_cut_off", seconds=STOP_SECONDS)


class _Server(embed.Server):
    """Granian on our own socket. A socket opened by Granian would share its port with other processes
    (SO_REUSEPORT)."""

    def __init__(self, app: ASGIApp, listener: socket.socket, connections: int) -> None:
        async def cancellable(scope: Scope, receive: Receive, send: Send) -> None:
            # Cancelled only if the process ends before a client has sent its request.
            with suppress(asyncio.CancelledError):
                await app(scope, receive, send)

        super().__init__(
            cancellable,
            interface=Interfaces.ASGINL,
            # With HTTP/2 neither the time limit nor the response 431 would work.
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=MAX_HEAD_BYTES
            ),
            log_level=LogLevels.error,
            log_dictconfig=_LOGGING,
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # Granian's type annotations lack this constructor and the attribute.
        self._shd = SocketHolder(self._listener.detach(), False, self.backlog)  # type: ignore


def _allowed_connections() -> int:
    """MAX_CONNECTIONS, or fewer if the limit on open files requires it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    desired = MAX_CONNECTIONS + _OTHER_FILES
    files = desired if hard == resource.RLIM_INFINITY else min(desired, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
    return files - _OTHER_FILES
