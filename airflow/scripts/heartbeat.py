"""Heartbeats of processes without a port: a file with the time until which they count as alive.

`health.py` reads it. A Celery worker imports this module (`extra_celery_config`) and beats while it is
connected to its broker.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

HEARTBEAT_FILE: Final = "HEARTBEAT_FILE"
_WORKER_S: Final = 30.0  # a worker beats every two seconds


def beat(seconds: float) -> None:
    """Count as alive for so many seconds; does nothing if HEARTBEAT_FILE is not set."""
    if path := os.environ.get(HEARTBEAT_FILE):
        written = Path(f"{path}.new")
        written.write_text(f"{time.time() + seconds:.0f}\n", encoding="ascii")
        written.replace(path)


def worker_beats(**_: Any) -> None:
    beat(_WORKER_S)


try:
    from celery.signals import heartbeat_sent
except ImportError:  # `beat` alone does not need Celery
    pass
else:
    # A strong reference: Celery looks up receivers once, when the worker connects.
    heartbeat_sent.connect(worker_beats, weak=False)
