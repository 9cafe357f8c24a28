"""Whether a part of Airflow works, for its container's health check: `python3 health.py scheduler`.

Standard library only, and no Airflow: it is asked every few seconds. Exit code 0, or 1 and one sentence.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

_SECONDS: Final = 4
_OWN_WEBSERVER: Final = "http://127.0.0.1:8080"
_FLOWER: Final = "http://127.0.0.1:5555/healthcheck"


class Unhealthy(Exception):
    """The part does not work; one sentence."""


def webserver() -> None:
    """It answers, and reaches the metadata database."""
    _status(_OWN_WEBSERVER, "metadatabase")


def heartbeat(part: str) -> None:
    """The part has told the metadata database lately that it works, as the web server says."""
    # Every one of them holds this address; the host is the web server's.
    address = os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL") or _OWN_WEBSERVER
    _status(address, part)


def beating() -> None:
    """The process has written lately that it works, into HEARTBEAT_FILE."""
    path = os.environ.get("HEARTBEAT_FILE")
    if not path:
        raise Unhealthy("HEARTBEAT_FILE is not set: set it to a path the process may write to.")
    try:
        until = float(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise Unhealthy(f"{path} holds no heartbeat ({type(error).__name__}).") from None
    if (late := time.time() - until) > 0:
        raise Unhealthy(f"{path}: the heartbeat is {late:.0f} s late.")


def flower() -> None:
    """Its own address for this answers; it needs no log-in."""
    _get(_FLOWER)


PARTS: Final[dict[str, Callable[[], None]]] = {
    "webserver": webserver,
    "scheduler": lambda: heartbeat("scheduler"),
    "dag-processor": lambda: heartbeat("dag_processor"),
    "triggerer": lambda: heartbeat("triggerer"),
    "worker": beating,
    "cleanup": beating,
    "watch": beating,
    "flower": flower,
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in PARTS:
        print(f"usage: health.py {{{','.join(PARTS)}}}", file=sys.stderr)
        return 2
    try:
        PARTS[arguments[0]]()
    except Unhealthy as unhealthy:
        print(unhealthy, file=sys.stderr)
        return 1
    return 0


def _status(address: str, part: str) -> None:
    try:
        known: Any = json.loads(_get(urljoin(address, "/api/v2/monitor/health")))
        status = known[part]["status"]
    except (ValueError, LookupError, TypeError):
        raise Unhealthy(f"{address} does not say how the {part} is.") from None
    if status != "healthy":
        raise Unhealthy(f"the {part} is {status or 'not running'}.")


def _get(address: str) -> bytes:
    # Whatever proxy the environment names: this never leaves the platform.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=_SECONDS) as answer:
            return bytes(answer.read())
    except (OSError, ValueError) as error:
        raise Unhealthy(f"{address} does not answer ({type(error).__name__}).") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
