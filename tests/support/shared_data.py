"""Real data of others, which is not part of the repository: a test that needs it skips without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_file(name: str) -> Path:
    """A file beside the checkout, or in the folder that `FRAUD_TEST_DATA` names."""
    folder = os.environ.get("FRAUD_TEST_DATA")
    root = Path(folder) if folder else Path(__file__).resolve().parents[3] / "shared" / "data"
    path = root / name
    if not path.is_file():
        pytest.skip(f"{path} is absent: set FRAUD_TEST_DATA to the folder that holds {name}")
    return path
