"""Local directories a job works in; those a killed process left behind are found by their name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

PREFIX: Final = "fraud-job-"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """An empty directory, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        yield Path(name)


def abandoned(before: datetime) -> list[Path]:
    """The directories nobody has written to since; a job needs its own for seconds."""
    found = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    return sorted(path for path in found if path.is_dir() and path.stat().st_mtime < before.timestamp())


def remove(paths: list[Path]) -> None:
    """Remove directories; what belongs to another user stays."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
