"""`python -m fraud_docker_proxy`: the proxy on PROXY_HOST and PROXY_PORT."""

from __future__ import annotations

import logging
import os
import socket
import sys

import uvicorn

from fraud_docker_proxy.app import build
from fraud_docker_proxy.settings import Misconfigured, Settings, from_environment


def main() -> int:
    """Serve until a signal ends it."""
    try:
        settings = from_environment(os.environ)
        listener = _listen(settings)
    except (Misconfigured, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    # Of HTTP as little as possible; requests that run when it ends are cut, the jobs behind them are not.
    config = uvicorn.Config(
        build(settings), http="h11", ws="none", loop="asyncio", lifespan="on", log_config=None,
        access_log=False, server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _is_news(record: logging.LogRecord) -> bool:
    """Not that an attached client is answered without another protocol, and by the end of its connection."""
    return record.funcName != "_unsupported_upgrade_warning" and not record.getMessage().startswith(
        "ASGI callable returned without"
    )


def _listen(settings: Settings) -> socket.socket:
    """A socket whose connections notice when their client's machine is gone without a word."""
    listener = socket.create_server((settings.host, settings.port), backlog=128)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # An answer's body would wait for its head to be acknowledged: a client keeps its connection.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        for option, seconds in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
            listener.setsockopt(socket.IPPROTO_TCP, option, seconds)
    return listener


if __name__ == "__main__":
    sys.exit(main())
