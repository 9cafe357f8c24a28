"""Finds the programs that packages bring, however the packages were installed."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

from fraud_embedded.processes.process import StartFailed


def program(distribution: str, name: str, copies: Path) -> Path:
    """The path of program `name` of an installed distribution, executable.

    Some installers lose the executable bit: then a copy in `copies` is used.

    Raises:
        StartFailed: the distribution is not installed, or has no such program.
    """
    try:
        files = importlib.metadata.distribution(distribution).files or []
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise StartFailed(f"{name}: the package {distribution} is not installed.") from None
    for file in files:
        found = Path(str(file.locate())).resolve() if file.name == name else None
        # With `pip install --target` programs are moved to bin/ below the target.
        if found is not None and not found.is_file():
            found = Path(str(file.locate())).parent / "bin" / name
        if found is None or not found.is_file():
            continue
        return found if os.access(found, os.X_OK) else _executable_copy(found, copies / f"{name}-{version}")
    beside = _beside_package(distribution, name)
    if beside is None:
        raise StartFailed(f"{name}: the package {distribution} does not hold it.")
    return beside


def _beside_package(distribution: str, name: str) -> Path | None:
    root = Path(str(importlib.metadata.distribution(distribution).locate_file("")))
    candidate = root / "bin" / name
    return candidate if os.access(candidate, os.X_OK) else None


def _executable_copy(source: Path, target: Path) -> Path:
    if not os.access(target, os.X_OK):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.with_name(target.name + ".new")
        shutil.copyfile(source, staging)
        staging.chmod(0o755)
        staging.rename(target)
    return target
