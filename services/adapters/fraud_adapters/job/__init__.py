"""The shell of a job: logs, exit code, and one JSON document as its result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import psycopg2

from config.job_results.common import (
    EXIT_CONFIGURATION,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NOTHING_TO_DO,
    EndingLabel,
    FailedResult,
    FailureKind,
    NothingToDoResult,
)
from config.settings import ConfigurationError, LogSettings, load
from fraud_adapters.job import logs, stopping
from fraud_adapters.job.failures import (
    ConfigurationFailure,
    JobFailed,
    LastingFailure,
    PassingFailure,
    UnexpectedFailure,
)

Result = Mapping[str, Any]

# Caught where work is retried: failures that may pass without intervention.
PASSING: Final = (PassingFailure, psycopg2.OperationalError, psycopg2.InterfaceError)
# Caught where a failure is extended: failures that a person can act on. Everything else is a bug.
EXPECTED: Final = (JobFailed, psycopg2.Error)


class NothingToDo(Exception):
    """There is nothing to do, or another run is doing it; the message says which."""


class _ExitStatus(NamedTuple):
    """How a job ends: its exit code, and the label of its last line."""

    code: int
    label: EndingLabel
    has_result: bool = True


_EXIT_STATUSES: Final[Mapping[FailureKind, _ExitStatus]] = {
    "passing": _ExitStatus(EXIT_FAILED, "failed"),
    "lasting": _ExitStatus(EXIT_FAILED, "failed"),
    "refused": _ExitStatus(EXIT_FAILED, "failed"),
    "unexpected": _ExitStatus(EXIT_FAILED, "unexpected"),
    # Without a result, because nothing was done and the last line says why.
    "configuration": _ExitStatus(EXIT_CONFIGURATION, "configuration", has_result=False),
}


def failure_of(error: BaseException) -> JobFailed:
    """The `JobFailed` that corresponds to an exception."""
    if isinstance(error, JobFailed):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, ConfigurationError):
        return ConfigurationFailure(str(error))
    if isinstance(error, psycopg2.InterfaceError):
        return PassingFailure(f"The connection to Postgres broke: {text.rstrip('.')}.")
    if isinstance(error, psycopg2.OperationalError):
        return PassingFailure(f"The connection to Postgres was lost: {text.rstrip('.')}.")
    if isinstance(error, psycopg2.Error):
        return LastingFailure(f"Postgres: {text.rstrip('.')}.")
    return UnexpectedFailure(f"{type(error).__name__}: {text}")


def run(service: str, main: Callable[[Sequence[str]], Result]) -> NoReturn:
    """Run `main(arguments)` as the job of this process, and exit.

    The result is written as JSON to `$RESULT_PATH`, or to stdout if that is not set. Exit codes: 0 done,
    99 nothing to do, 2 wrong configuration, 1 failed, 128 + n ended by signal n. Unless the job is done, one
    sentence on stderr gives the reason.
    """
    result: Result | None = None
    stopping.install_handlers()
    try:
        logs.configure(load(LogSettings), service)
        result = main(sys.argv[1:])
        logs.get_logger(service).info("job_done", **_figures(result))
        code = EXIT_DONE
    except NothingToDo as error:
        code = _report_end(EXIT_NOTHING_TO_DO, "nothing_to_do", error)
        result = NothingToDoResult(status="nothing_to_do", reason=str(error))
    except stopping.Stopped as error:
        code = _report_end(128 + error.signal, "interrupted", error)
    except Exception as error:
        code, result = _failed(service, error)
    if result is not None and (problem := _write(result)):
        code = _report_end(code or EXIT_CONFIGURATION, "configuration", problem)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _failed(service: str, error: Exception) -> tuple[int, Result | None]:
    failure = failure_of(error)
    is_bug = failure.kind == "unexpected"
    if is_bug or (isinstance(failure, LastingFailure) and isinstance(error, psycopg2.Error)):
        # A statement that the database refuses may be a bug too; the traceback shows it.
        logs.get_logger(service).error("unexpected_error" if is_bug else "database_refuses", exc_info=error)
    exit_status = _EXIT_STATUSES[failure.kind]
    code = _report_end(exit_status.code, exit_status.label, failure)
    if not exit_status.has_result:
        return code, None
    return code, {**failure.result, **FailedResult(status="failed", failure=failure.kind, error=str(failure))}


def _figures(result: Result) -> dict[str, Any]:
    """The scalar values of a result, which fit into a log line."""
    return {name: value for name, value in result.items() if isinstance(value, str | int | float)}


def _report_end(code: int, label: EndingLabel, reason: BaseException | str) -> int:
    print(f"{label}: {reason}", file=sys.stderr)  # noqa: T201
    return code


def _write(result: Result) -> str | None:
    """Write the result; returns the problem as a sentence if it cannot be written."""
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
