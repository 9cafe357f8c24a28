"""Tells within milliseconds whether a Kafka broker answers, without a client of the library.

The request is ApiVersions in version 0, which every broker must answer
(https://kafka.apache.org/protocol#The_Messages_ApiVersions).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Final

from fraud_adapters.kafka.errors import CONNECT_TIMEOUT_S, BrokerUnavailable

_API_VERSIONS: Final = 18
_CORRELATION: Final = 5
_CLIENT: Final = b"preflight"


def require_answer(bootstrap: Sequence[str]) -> str:
    """The first address at which a broker answers.

    Raises:
        BrokerUnavailable: none does; the sentence has each address with the cause.
    """
    causes = []
    for address in bootstrap:
        try:
            _ask(address)
        except (OSError, EOFError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            causes.append(f"{address}: {cause}")
        else:
            return address
    raise BrokerUnavailable(f"Kafka cannot be reached ({'; '.join(causes)}).")


def _ask(address: str) -> None:
    host, _, port = address.rpartition(":")
    header = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION, len(_CLIENT)) + _CLIENT
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(header)) + header)
        with connection.makefile("rb") as answer:
            head = answer.read(8)
    if len(head) < 8 or struct.unpack(">ii", head)[1] != _CORRELATION:
        raise EOFError("what listens there is not a Kafka broker")
