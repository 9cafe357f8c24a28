"""The proxy's log: one JSON line per action or refusal. It never contains a job's environment."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def log_event(event: str, **fields: Any) -> None:
    """Write one event to stderr."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"timestamp": at, "level": "info", "event": event, **fields})
    print(line, file=sys.stderr, flush=True)  # noqa: T201
