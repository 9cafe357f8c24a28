"""A file that says until when a process without a port counts as alive; `health.py` reads it.

A Celery worker imports this module (`extra_celery_config`): its event loop beats while it has its broker.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

HEARTBEAT_FILE: Final = "HEARTBEAT_FILE"
_WORKER_S: Final = 30.0  # it beats every two seconds


def beat(seconds: float) -> None:
    """Count as alive for so long; where HEARTBEAT_FILE is not set nobody asks."""
    if path := os.environ.get(HEARTBEAT_FILE):
        written = Path(f"{path}.new")
        written.write_text(f"{time.time() + seconds:.0f}\n", encoding="ascii")
        written.replace(path)


def worker_beats(**_: Any) -> None:
    beat(_WORKER_S)


try:
    from celery.signals import heartbeat_sent
except ImportError:  # whoever only wants `beat` needs no Celery
    pass
else:
    # Not weakly: Celery looks for receivers once, when the worker connects.
    heartbeat_sent.connect(worker_beats, weak=False)
