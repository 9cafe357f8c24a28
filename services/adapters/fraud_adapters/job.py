"""The shell of a job: logs, exit code, and one JSON document as its result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from config.constants import EXIT_CONFIGURATION, EXIT_DONE, EXIT_FAILED, EXIT_NOTHING_TO_DO
from config.settings import ConfigurationError, LogSettings, load
from fraud_adapters import logs, stopping

Result = Mapping[str, Any]


class JobFailed(Exception):
    """The job cannot go on; the message is one sentence for whoever runs it."""

    def __init__(self, sentence: str, result: Result | None = None) -> None:
        super().__init__(sentence)
        self.result = result or {}


class NothingToDo(Exception):
    """There is nothing to do, or another run is doing it; the message says which."""


def run(service: str, main: Callable[[Sequence[str]], Result]) -> NoReturn:
    """Run `main(arguments)` as the process' job and exit.

    The result goes to `$RESULT_PATH` as JSON, or to stdout where that is not set. Exit codes: 0 done,
    99 nothing to do, 2 wrong configuration, 1 failed, 128 + n ended by signal n; then one sentence on stderr
    says why.
    """
    result: Result | None = None
    stopping.listen()
    try:
        logs.configure(load(LogSettings), service)
        result = main(sys.argv[1:])
        logs.get_logger(service).info("job_done", **_figures(result))
        code = EXIT_DONE
    except ConfigurationError as error:
        code = _end(EXIT_CONFIGURATION, "configuration", error)
    except NothingToDo as error:
        code = _end(EXIT_NOTHING_TO_DO, "nothing_to_do", error)
        result = {"status": "nothing_to_do", "reason": str(error)}
    except JobFailed as error:
        code = _end(EXIT_FAILED, "failed", error)
        result = {**error.result, "status": "failed", "error": str(error)}
    except stopping.Stopped as error:
        code = _end(128 + error.signal, "interrupted", error)
    except Exception as error:
        logs.get_logger(service).error("unexpected_error", exc_info=True)
        sentence = " ".join(f"{type(error).__name__}: {error}".split())
        code = _end(EXIT_FAILED, "unexpected", sentence)
        result = {"status": "failed", "error": sentence}
    if result is not None and (problem := _write(result)):
        code = _end(code or EXIT_CONFIGURATION, "configuration", problem)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _figures(result: Result) -> dict[str, Any]:
    """What fits into a line of the log."""
    return {name: value for name, value in result.items() if isinstance(value, str | int | float)}


def _end(code: int, kind: str, reason: BaseException | str) -> int:
    print(f"{kind}: {reason}", file=sys.stderr)  # noqa: T201
    return code


def _write(result: Result) -> str | None:
    """Write the result; what is wrong with its place, if it cannot be written."""
    text = json.dumps(result, default=str, sort_keys=True)
    target = os.environ.get("RESULT_PATH")
    if target is None:
        print(text)  # noqa: T201
        return None
    path = Path(target)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        return f"RESULT_PATH: {path} cannot be written ({error.strerror}): name another file."
    return None
