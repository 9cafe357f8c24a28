"""Which ports the platform uses: the specified ones, or all of them moved by one offset."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import ConfigurationError
from fraud_core.plain_numbers import parse_whole_number
from fraud_embedded.servers.objectstore import INTERNAL_PORTS
from fraud_embedded.servers.stack import Ports

POSTGRES: Final = 5432
KAFKA: Final = 9092
API: Final = 8000  # the gateway, which leads to the API
API_METRICS: Final = 8001
STREAM_METRICS: Final = 8002
WATCH_METRICS: Final = 8003
API_DIRECT: Final = 8008  # the champion's replica of the API itself
CANARY: Final = 8005  # the replica of a release over HTTP
CANARY_METRICS: Final = 8006
GATEWAY_METRICS: Final = 8007
AIRFLOW: Final = 8080
AUDIT: Final = 8050
AUDIT_METRICS: Final = 8004
OVERVIEW: Final = 8051
MLFLOW: Final = 5000
OBJECT_STORE: Final = 8333
OBJECT_STORE_INTERNAL: Final = tuple(range(18333, 18333 + INTERNAL_PORTS))
SPECIFIED: Final = {
    "postgres": POSTGRES,
    "kafka": KAFKA,
    "api": API,
    "api metrics": API_METRICS,
    "stream metrics": STREAM_METRICS,
    "airflow metrics": WATCH_METRICS,
    "api replica": API_DIRECT,
    "canary": CANARY,
    "canary metrics": CANARY_METRICS,
    "gateway metrics": GATEWAY_METRICS,
    "airflow": AIRFLOW,
    "audit": AUDIT,
    "audit metrics": AUDIT_METRICS,
    "overview": OVERVIEW,
    "mlflow": MLFLOW,
    "object store": OBJECT_STORE,
    **{f"object store ({port})": port for port in OBJECT_STORE_INTERNAL},
}
_STEP: Final = 100
_TRIES: Final = 100

IsFree = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Addresses:
    """All ports of one installation."""

    offset: int

    @property
    def api(self) -> int:
        return API + self.offset

    @property
    def api_metrics(self) -> int:
        return API_METRICS + self.offset

    @property
    def stream_metrics(self) -> int:
        return STREAM_METRICS + self.offset

    @property
    def watch_metrics(self) -> int:
        return WATCH_METRICS + self.offset

    @property
    def api_direct(self) -> int:
        return API_DIRECT + self.offset

    @property
    def canary(self) -> int:
        return CANARY + self.offset

    @property
    def canary_metrics(self) -> int:
        return CANARY_METRICS + self.offset

    @property
    def gateway_metrics(self) -> int:
        return GATEWAY_METRICS + self.offset

    @property
    def airflow(self) -> int:
        return AIRFLOW + self.offset

    @property
    def audit(self) -> int:
        return AUDIT + self.offset

    @property
    def audit_metrics(self) -> int:
        return AUDIT_METRICS + self.offset

    @property
    def overview(self) -> int:
        return OVERVIEW + self.offset

    @property
    def stack(self) -> Ports:
        return Ports(
            postgres=POSTGRES + self.offset,
            kafka=KAFKA + self.offset,
            mlflow=MLFLOW + self.offset,
            object_store=OBJECT_STORE + self.offset,
            object_store_internal=tuple(port + self.offset for port in OBJECT_STORE_INTERNAL),
        )


def choose(kept: int | None, explicit: str | None, is_free: IsFree) -> Addresses:
    """The ports to start with.

    Args:
        kept: the offset of the last start, if there was one; it is used again where it can be.
        explicit: the text of PORT_OFFSET, if somebody set it.

    Raises:
        ConfigurationError: PORT_OFFSET is not a number or clashes, or no range is free.
    """
    if explicit:
        return _explicit(explicit, is_free)
    candidates = [] if kept is None else [kept]
    candidates += [offset for offset in range(0, _STEP * _TRIES, _STEP) if offset != kept]
    for offset in candidates:
        if not taken(offset, is_free):
            return Addresses(offset)
    raise ConfigurationError("No range of ports is free: stop what holds them, or set PORT_OFFSET.")


def taken(offset: int, is_free: IsFree) -> list[str]:
    """The ports somebody else has, as `name port`."""
    return [f"{name} {port + offset}" for name, port in SPECIFIED.items() if not is_free(port + offset)]


def _explicit(text: str, is_free: IsFree) -> Addresses:
    highest = 65535 - max(SPECIFIED.values())
    try:
        offset = parse_whole_number(text, 0, highest)
    except ValueError:
        raise ConfigurationError(
            f"PORT_OFFSET is {text}: set a number from 0 to {highest}, or unset it."
        ) from None
    if clash := taken(offset, is_free):
        raise ConfigurationError(
            f"PORT_OFFSET={offset} clashes: taken are {', '.join(clash)}; choose another, or unset it."
        )
    return Addresses(offset)


def read(state_file: Path) -> int | None:
    """The offset kept from the last start, if any."""
    try:
        offset = json.loads(state_file.read_text("utf-8"))["port_offset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return offset if isinstance(offset, int) else None


def keep(state_file: Path, addresses: Addresses) -> None:
    ports = [port + addresses.offset for port in SPECIFIED.values()]
    kept = {"port_offset": addresses.offset, "ports": ports}
    state_file.write_text(json.dumps(kept) + "\n", encoding="utf-8")
