"""The result of a job: one JSON object of limited size."""

from __future__ import annotations

import json
from typing import Any, Final

from fraud_airflow.jobs import RESULT_LIMIT_BYTES

MISSING: Final = "it wrote no result"
TOO_LARGE: Final = f"its result is larger than {RESULT_LIMIT_BYTES} bytes"


def parse(content: bytes) -> tuple[dict[str, Any] | None, str]:
    """The document, or the reason why there is none."""
    if len(content) > RESULT_LIMIT_BYTES:
        return None, TOO_LARGE
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None, "its result is not JSON"
    return (document, "") if isinstance(document, dict) else (None, "its result is not a JSON object")


def unreadable(reason: str | None) -> tuple[None, str]:
    """The path exists but cannot be read."""
    return None, f"its result cannot be read ({reason})"


def _refuse(name: str) -> None:
    raise ValueError(name)
