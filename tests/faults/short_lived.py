"""The scoring API with tokens that live for seconds: `python -m tests.faults.short_lived serve`.

The configuration allows a minute at least, which is longer than a test should take.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fraud_adapters.job import run
from fraud_api.__main__ import main
from fraud_api.auth import TokenIssuer

SECONDS = "TOKEN_SECONDS"


class ShortLived(TokenIssuer):
    """See `TokenIssuer`."""

    def __init__(self, identities: Any, clock: Callable[[], float], _configured: object) -> None:
        lifetime = timedelta(seconds=int(os.environ[SECONDS]))
        super().__init__(identities, clock, lambda _client_id: lifetime)


if __name__ == "__main__":
    # Imported only in the program: ONNX Runtime starts a thread, and the fork server imports this module.
    from fraud_api import service

    setattr(service, "TokenIssuer", ShortLived)  # noqa: B010
    run("api", main)
