"""Which benchmarks `./fraud bench` knows: those whose docstring says so. Standard library only."""

from __future__ import annotations

import ast
from pathlib import Path

from fraud_launcher.bootstrap import ROOT, Refused

FOLDER = ROOT / "tests" / "benchmarks"
QUICK = "tests.benchmarks.quick"  # the main ones, one after another on the same servers


def names(folder: Path = FOLDER) -> dict[str, str]:
    """Each benchmark's name, with the first sentence of its docstring."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        # The other modules are parts of a benchmark, or processes that one starts.
        if f"./fraud bench {file.stem}" in text:
            found[file.stem] = text.partition("\n\n")[0].replace("\n", " ")
    return found


def module(name: str) -> str:
    """The module to run for a benchmark.

    Raises:
        Refused: there is none of that name; the message lists them.
    """
    if name not in names():
        raise Refused(f"There is no benchmark {name!r}.\n\n{listing()}")
    return f"tests.benchmarks.{name}"


def listing() -> str:
    """The benchmarks, one a line."""
    known = names()
    width = max(map(len, known)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in known.items()]
    return "\n".join(
        [
            "usage: ./fraud bench NAME [options]      (--help after a name: its options)",
            "       ./fraud bench --quick [--json FILE]      (predict, batch, stream and latency, shortened)",
            "",
            *lines,
        ]
    )
