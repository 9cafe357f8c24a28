"""The gateway, Traefik with our configuration, in front of servers of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import Running
from fraud_embedded.servers import gateway as embedded
from tests.support.api_server import ROOT

CONFIGURATION: Final = ROOT / "services" / "gateway" / "traefik"


class Gateway(NamedTuple):
    """Where clients reach it, and the port of its metrics."""

    url: str
    metrics: int


@contextmanager
def gateway(
    port: int, folder: Path, *, canary: int = 1, provider: int = 1, web: int | None = None
) -> Iterator[Gateway]:
    """The gateway in front of this port of the host; only addresses differ from Compose.

    Args:
        canary: the port of the replica that serves releases over HTTP.
        provider: the port of the API's metrics, where it gives the shares of the requests.
        web: the port that clients reach, by default any.
    """
    free, internal = free_ports(2)
    web = web or free
    server = embedded.Gateway(
        configuration=CONFIGURATION,
        place=folder,
        port=web,
        internal_port=internal,
        api=port,
        canary=canary,
        provider=provider,
    )
    embedded.prepare(server)
    running = Running(embedded.spec(server), folder / "gateway.log")
    try:
        running.wait_ready(60)
        yield Gateway(f"http://127.0.0.1:{web}", internal)
    finally:
        running.stop(5)
