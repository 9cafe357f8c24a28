"""Free ports on 127.0.0.1."""

from __future__ import annotations

import random
import socket
from typing import Final

from fraud_embedded.processes.probes import HOST

# Below the range from which systems take the ports of outgoing connections: one of those would take a port
# between its being found free and its server's start.
_RANGE: Final = range(12_000, 32_000)


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on, chosen by chance; no other process is given them."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            break
        if is_free(port) and _reserve(port):
            found.append(port)
    return found


def _reserve(port: int) -> bool:
    """Whether no other process was given the port; from now on until this one ends none is.

    The sign is a UDP socket of the same number, which servers of TCP do not use: between a port's being found
    free and its server's start, others that look for one at the same time would be given it too.
    """
    sign = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sign.bind((HOST, port))
    except OSError:
        sign.close()
        return False
    sign.detach()  # open until the process ends
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on the port, on 127.0.0.1 as well as on every address."""
    for address in (HOST, ""):
        with socket.socket() as probe:
            # Servers set this too: a recently closed connection does not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
