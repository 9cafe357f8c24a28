"""The health check of Airflow's containers: `python3 health.py scheduler`.

Standard library only, without Airflow, because it runs every few seconds. Exit code 0, or 1 and one sentence.
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
    """The web server answers and reaches the metadata database."""
    _status(_OWN_WEBSERVER, "metadatabase")


def heartbeat(part: str) -> None:
    """The component has a recent heartbeat in the metadata database, as the web server reports."""
    # Every component has this variable; its host is the web server.
    address = os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL") or _OWN_WEBSERVER
    _status(address, part)


def heartbeat_file() -> None:
    """The process has recently written its heartbeat into HEARTBEAT_FILE."""
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
    """Flower's health check answers; it needs no log-in."""
    _get(_FLOWER)


PARTS: Final[dict[str, Callable[[], None]]] = {
    "webserver": webserver,
    "scheduler": lambda: heartbeat("scheduler"),
    "dag-processor": lambda: heartbeat("dag_processor"),
    "triggerer": lambda: heartbeat("triggerer"),
    "worker": heartbeat_file,
    "cleanup": heartbeat_file,
    "watch": heartbeat_file,
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
        report: Any = json.loads(_get(urljoin(address, "/api/v2/monitor/health")))
        status = report[part]["status"]
    except (ValueError, LookupError, TypeError):
        raise Unhealthy(f"{address} does not report the state of the {part}.") from None
    if status != "healthy":
        raise Unhealthy(f"the {part} is {status or 'not running'}.")


def _get(address: str) -> bytes:
    # Ignore proxies of the environment: the request stays within the platform.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=_SECONDS) as answer:
            return bytes(answer.read())
    except (OSError, ValueError) as error:
        raise Unhealthy(f"{address} does not answer ({type(error).__name__}).") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
