"""The W3C trace context that a transaction brings along, in a request's or a record's header."""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse_traceparent(header: str | bytes | None) -> str | None:
    """The header's trace context; one that is malformed is ignored, as the standard says."""
    if isinstance(header, bytes):
        header = header.decode("ascii", "replace")
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None
