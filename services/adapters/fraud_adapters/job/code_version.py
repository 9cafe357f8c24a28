"""The version of the code that runs, for what must be traced back to it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def code_version() -> str:
    """`CODE_VERSION` from the build, else the commit of the checkout, else `unknown`."""
    if version := os.environ.get("CODE_VERSION", "").strip():
        return version
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() or "unknown"
