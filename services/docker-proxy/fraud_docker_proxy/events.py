"""The proxy's log: a JSON line for each thing it did or refused, never with a job's environment."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def say(event: str, **fields: Any) -> None:
    """Write one line."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"timestamp": at, "level": "info", "event": event, **fields})
    print(line, file=sys.stderr, flush=True)  # noqa: T201
