"""Temporary directories of jobs; those of killed processes are found by their prefix."""

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
    """An empty directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        yield Path(name)


def abandoned(folder: Path, before: datetime) -> list[Path]:
    """The jobs' directories in `folder` last written before this time; a job needs its for seconds only."""
    directories = folder.glob(f"{PREFIX}*")
    return sorted(path for path in directories if path.is_dir() and path.stat().st_mtime < before.timestamp())


def remove(paths: list[Path]) -> None:
    """Remove directories, except those of other users."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
