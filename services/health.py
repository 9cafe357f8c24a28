"""Health check of an image: requests HEALTH_URL; exit code 0 if the response is 2xx."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main() -> int:
    """Send one request; for anything but a 2xx print a sentence and return 1."""
    url = os.environ.get("HEALTH_URL", "")
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        print(f"HEALTH_URL={url!r} is not an http:// address: set it to the server's health page.")
        return 1
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=4)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except OSError as reason:
        print(f"{url} does not answer: {reason}")
        return 1
    print(f"{url} answered {status}")
    return 0 if 200 <= status < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
