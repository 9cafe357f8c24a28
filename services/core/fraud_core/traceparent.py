"""Parses the W3C trace context in the header of a request or a record."""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse_traceparent(header: str | bytes | None) -> str | None:
    """The header's trace context, or None if it is malformed: the standard requires to ignore it then."""
    if isinstance(header, bytes):
        header = header.decode("ascii", "replace")
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None
