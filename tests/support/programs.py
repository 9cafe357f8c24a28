"""Programs that are not ours: present in CI, maybe not elsewhere."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """The program's path; where it is not installed the test is skipped, and fails in CI."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed, and .ci/run is to run everything")
    pytest.skip(f"{name} is not installed")
