"""`python -m fraud_docker_proxy`: serves the proxy on PROXY_HOST and PROXY_PORT."""

from __future__ import annotations

import logging
import os
import socket
import sys

import uvicorn

from fraud_docker_proxy.app import build
from fraud_docker_proxy.settings import InvalidSettings, Settings, from_environment


def main() -> int:
    """Serve until a signal ends it."""
    try:
        settings = from_environment(os.environ)
        listener = _listen(settings)
    except (InvalidSettings, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    logging.getLogger("uvicorn.error").addFilter(_is_relevant)
    # The server supports only the part of HTTP that jobs need. Open requests are cut at shutdown; their jobs
    # run on.
    config = uvicorn.Config(
        build(settings), http="h11", ws="none", loop="asyncio", lifespan="on", log_config=None,
        access_log=False, server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _is_relevant(record: logging.LogRecord) -> bool:
    """Whether a record is worth logging: `attach` is answered without an upgrade and never completed, by
    design."""
    return record.funcName != "_unsupported_upgrade_warning" and not record.getMessage().startswith(
        "ASGI callable returned without"
    )


def _listen(settings: Settings) -> socket.socket:
    """A listening socket with TCP keep-alive, which detects clients whose machine has vanished."""
    listener = socket.create_server((settings.host, settings.port), backlog=128)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Without TCP_NODELAY a body would wait until the client has acknowledged the response's head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        for option, seconds in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
            listener.setsockopt(socket.IPPROTO_TCP, option, seconds)
    return listener


if __name__ == "__main__":
    sys.exit(main())
