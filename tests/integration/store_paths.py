"""A fixture that runs a module's tests over each way to store a batch: import it into the module."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from fraud_adapters.postgres import scored_transactions


@pytest.fixture(scope="module", autouse=True, params=["call", "copy"])
def store_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Store all batches by one call, or all by COPY, whatever the number of rows."""
    copied_from = {"call": sys.maxsize, "copy": 1}[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scored_transactions, "COPIED_FROM", copied_from)
        yield request.param
