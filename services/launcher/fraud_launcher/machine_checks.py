"""Checks of this machine: Python, memory, disk, installed packages, `.env`. Standard library only.

Each returns one sentence, or raises `Problem`.
"""

from __future__ import annotations

import platform
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from config.constants import DEVELOPMENT_SECRET_MARK
from fraud_launcher import dotenv
from fraud_launcher.bootstrap import (
    MIN_DISK_MIB,
    LauncherError,
    available_memory_mib,
    check_disk,
    check_memory,
    check_system,
)
from fraud_launcher.findings import Problem

PYTHON_RANGE: Final = ((3, 11), (3, 15))  # from the first to before the second
RUNNING_DISK_MIB: Final = 500  # a platform that runs needs little more than its logs and its data
_SHOWN: Final = 3


def python(version: tuple[int, int] = sys.version_info[:2]) -> str:
    """The version of Python, and the system."""
    shown = ".".join(map(str, version))
    lowest, above = PYTHON_RANGE
    if not lowest <= version < above:
        raise Problem(
            f"Python is {shown}, and the platform runs on 3.11 to 3.14.",
            "Install one of them (for example the package python3.13), or set PYTHON to its path.",
        )
    try:
        check_system(platform.system(), platform.machine(), platform.libc_ver()[0])
    except LauncherError as error:
        raise Problem(str(error), "Use another machine, or Docker Compose (make up).") from None
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}."


def memory(*, running: bool) -> str:
    """Whether the platform would fit into memory; one that runs has its memory already."""
    available = available_memory_mib()
    if running or available is None:
        return "The platform is running." if running else "This system does not say how much is available."
    try:
        check_memory(available)
    except LauncherError as error:
        raise Problem(str(error), "End other programs, or use a machine with more memory.") from None
    return f"{available} MiB are available."


def disk(folder: Path, *, installed: bool, running: bool) -> str:
    """Whether there is space for what is still to be written below `folder`."""
    needed = RUNNING_DISK_MIB if running else MIN_DISK_MIB // 4 if installed else MIN_DISK_MIB
    free = shutil.disk_usage(folder).free // 2**20
    try:
        check_disk(free, needed)
    except LauncherError:
        raise Problem(
            f"{free} MiB are free on the disk of {folder}, {needed} MiB are needed.",
            f"Free some on the disk of {folder}: ./fraud demo-clean removes the embedded platform's data.",
        ) from None
    return f"{free} MiB are free on the disk of {folder}, {needed} MiB are needed."


def variables(root: Path, environ: Mapping[str, str]) -> str:
    """Whether `.env` is complete, private, and without development secrets in production."""
    file = root / ".env"
    try:
        values = dotenv.read(file)
    except dotenv.BadDotenv as error:
        raise Problem(
            str(error), "Correct the line; docs/ENVIRONMENT_CONFIG.md says how values are written."
        ) from None
    needed = dotenv.parse((root / ".env.example").read_text(encoding="utf-8"))
    if missing := [name for name in needed if not values.get(name)]:
        raise Problem(
            f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} not set in .env.",
            f"Set {_listed(missing)}: ./fraud demo and make up add missing secrets by themselves.",
        )
    production = (environ.get("APP_ENV") or values.get("APP_ENV")) == "production"
    defaults = [name for name, value in values.items() if DEVELOPMENT_SECRET_MARK in value]
    if production and defaults:
        raise Problem(
            f"APP_ENV is production, and {_listed(defaults)} still has the development default.",
            f"Set secrets of your own: {_listed(defaults)}.",
        )
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077 and not defaults:
        raise Problem(f".env can be read by others (mode {mode:o}).", "Make it private: chmod 600 .env.")
    kind = f"{len(defaults)} secrets have development defaults" if defaults else "no secret is a default"
    return f".env sets {len(values)} variables; {kind}."


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
