"""Third-party programs, which are installed in CI but perhaps not elsewhere."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """The program's path; if it is missing the test is skipped, or fails in CI."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed, and .ci/run is to run everything")
    pytest.skip(f"{name} is not installed")
