"""Runs the platform's jobs for the demo: as processes of their own, with the environment of their role."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from config.job_results.common import EXIT_DONE, EXIT_NOTHING_TO_DO
from fraud_embedded.platform import Platform
from fraud_embedded.processes.process import base_environment, run_logged, tail


class JobEnded(Exception):
    """A job failed; the message is its own sentence, or the end of its log."""

    def __init__(self, command: str, sentence: str, result: dict[str, Any]) -> None:
        super().__init__(f"{command}: {sentence}")
        self.result = result


def run_job(platform: Platform, role: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `python -m <arguments>` with the environment of `role`; its result document.

    Raises:
        JobEnded: it failed.
    """
    name = "-".join(arguments[:2])
    log = platform.layout.logs / f"{name}.log"
    result_file = platform.layout.run / f"result-{uuid.uuid4().hex}.json"
    environment = base_environment() | platform.environment(role) | {"RESULT_PATH": str(result_file)}
    start = log.stat().st_size if log.exists() else 0
    code = run_logged([sys.executable, "-m", *arguments], platform.layout.root, environment, log)
    result: dict[str, Any] = {}
    if result_file.exists():
        result = json.loads(result_file.read_text("utf-8"))
        result_file.unlink()
    if code not in (EXIT_DONE, EXIT_NOTHING_TO_DO):
        with log.open("rb") as written:
            written.seek(start)
            own = written.read().decode("utf-8", errors="replace").strip().splitlines()
        sentence = result.get("error") or (own[-1] if own else f"ended with exit code {code}")
        where = f"(its log: {log})" if result.get("error") else tail(log)
        raise JobEnded(f"{arguments[0]} {arguments[1]}", f"{sentence}\n{where}", result)
    return result
