"""Finds the benchmarks of `./fraud bench`: modules whose docstring names that command. Standard library
only."""

from __future__ import annotations

import ast
from pathlib import Path

from fraud_launcher.bootstrap import ROOT, LauncherError

FOLDER = ROOT / "tests" / "benchmarks"
QUICK = "tests.benchmarks.quick"  # the main ones, one after another on the same servers


def names(folder: Path = FOLDER) -> dict[str, str]:
    """The benchmarks by name, with the first paragraph of their docstring."""
    descriptions = {}
    for file in sorted(folder.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        # The other modules are parts of a benchmark or processes that it starts.
        if f"./fraud bench {file.stem}" in text:
            descriptions[file.stem] = text.partition("\n\n")[0].replace("\n", " ")
    return descriptions


def module(name: str) -> str:
    """The module to run for a benchmark.

    Raises:
        LauncherError: there is no such benchmark; the message lists them.
    """
    if name not in names():
        raise LauncherError(f"There is no benchmark {name!r}.\n\n{listing()}")
    return f"tests.benchmarks.{name}"


def listing() -> str:
    """The list of benchmarks, one per line."""
    descriptions = names()
    width = max(map(len, descriptions)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in descriptions.items()]
    return "\n".join(
        [
            "usage: ./fraud bench NAME [options]      (--help after a name: its options)",
            "       ./fraud bench --quick [--json FILE]      (predict, batch, stream and latency, shortened)",
            "",
            *lines,
        ]
    )
