"""Free ports on 127.0.0.1."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from fraud_embedded.probes import HOST


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen on the port, on 127.0.0.1 as well as on every address."""
    for address in (HOST, ""):
        with socket.socket() as probe:
            # Servers set this too: a connection that has just been closed is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
