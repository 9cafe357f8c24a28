"""Whether the scoring API is ready, by its public route; needs no client and no token."""

from __future__ import annotations

import json
from typing import Any, Final

import urllib3

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0


def not_ready(url: str) -> tuple[str | None, str]:
    """What keeps the API from being ready, as a sentence, or None; and what it is ready with."""
    pool = urllib3.PoolManager(
        retries=False, timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    )
    try:
        response = pool.request("GET", f"{url}/health/ready?deep=1")
        parts = _parts(response.data)
    except urllib3.exceptions.HTTPError as error:
        return f"The API at {url} does not answer ({type(error).__name__}).", ""
    finally:
        pool.clear()
    bad = [f"{name} is {part.get('state')}" for name, part in parts.items() if part.get("state") != "ok"]
    if response.status == 200 and parts and not bad:
        version = parts.get("model", {}).get("version")
        return None, f"The API is ready with version {version}." if version else "The API is ready."
    reason = ", ".join(bad) or f"it answered {response.status}"
    return f"The API at {url} is not ready: {reason}.", ""


def _parts(body: bytes) -> dict[str, dict[str, Any]]:
    try:
        parts = json.loads(body)["parts"]
    except (ValueError, KeyError, TypeError):
        return {}
    return (
        {str(name): part for name, part in parts.items() if isinstance(part, dict)}
        if isinstance(parts, dict)
        else {}
    )
