"""`./fraud doctor`: examines this machine and the platform. Standard library only.

The checks of servers need the platform's packages. If those are not installed yet, only the machine is
examined: nothing is installed in order to say whether it can be.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fraud_launcher import machine_checks
from fraud_launcher.findings import Finding, Problem, State, document, has_problem, render

HELP: Final = (
    "examine this machine and the platform: a table of what is wrong and how to fix it; --json, --help"
)
_NOT_INSTALLED: Final = "The packages are not installed yet: ./fraud demo installs them."


def parser() -> argparse.ArgumentParser:
    """The options, which the examination with packages takes too."""
    options = argparse.ArgumentParser(
        prog="./fraud doctor",
        description="Examine this machine and the platform that runs here: versions, variables, ports, disk, "
        "Postgres, Kafka, object store, MLflow, scoring API, Airflow and Docker. Nothing is changed. "
        "Exit code 0: no problem; 1: at least one. docs/doctor.md explains each row.",
    )
    options.add_argument("--json", action="store_true", help="the findings as JSON (docs/doctor.schema.json)")
    options.add_argument(
        "--target",
        choices=("demo", "compose"),
        help="which platform is examined (default: the one that runs, else the embedded one); compose "
        "installs the packages that the examination needs",
    )
    return options


def examine_machine(root: Path, arguments: Sequence[str]) -> int:
    """Examine the machine without the platform's packages, print the findings, and return the exit code."""
    options = parser().parse_args(arguments)
    started = time.monotonic()
    findings = [
        _finding("python", machine_checks.python),
        Finding("machine", "packages", State.NOT_RUNNING, _NOT_INSTALLED),
        _finding("memory", lambda: machine_checks.memory(running=False)),
        _finding("disk", lambda: machine_checks.disk(root, installed=False, running=False)),
        _variables(root),
    ]
    if options.json:
        seconds = time.monotonic() - started
        print(json.dumps(document(options.target or "demo", False, findings, seconds), indent=2))
    else:
        print(render(findings))
    return 1 if has_problem(findings) else 0


def _variables(root: Path) -> Finding:
    if not (root / ".env").exists():
        text = "There is no .env yet: ./fraud demo and make up write one with random secrets."
        return Finding("machine", "variables", State.NOT_RUNNING, text)
    return _finding("variables", lambda: machine_checks.variables(root, os.environ))


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding("machine", name, State.OK, check())
    except Problem as problem:
        return Finding("machine", name, State.PROBLEM, str(problem), problem.fix)
