"""The shell of a job: logs, exit code, and one JSON document as its result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import psycopg2

from config.job_results import (
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

# To be caught where work goes on with another try: what may pass by itself.
PASSING: Final = (PassingFailure, psycopg2.OperationalError, psycopg2.InterfaceError)
# To be caught where a failure is extended: what a person can act on. Everything else is a fault of ours.
EXPECTED: Final = (JobFailed, psycopg2.Error)


class NothingToDo(Exception):
    """There is nothing to do, or another run is doing it; the message says which."""


class _Ending(NamedTuple):
    """How a job ends: its exit code, and what its last line begins with."""

    code: int
    label: EndingLabel
    has_result: bool = True


_ENDINGS: Final[Mapping[FailureKind, _Ending]] = {
    "passing": _Ending(EXIT_FAILED, "failed"),
    "lasting": _Ending(EXIT_FAILED, "failed"),
    "refused": _Ending(EXIT_FAILED, "failed"),
    "unexpected": _Ending(EXIT_FAILED, "unexpected"),
    # Nothing was done, and the last line says all there is to say.
    "configuration": _Ending(EXIT_CONFIGURATION, "configuration", has_result=False),
}


def failure_of(error: BaseException) -> JobFailed:
    """An error as one of the family of failures, with its sentence."""
    if isinstance(error, JobFailed):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, ConfigurationError):
        return ConfigurationFailure(str(error))
    if isinstance(error, psycopg2.InterfaceError):
        return PassingFailure(f"The connection to Postgres broke: {text.rstrip('.')}.")
    if isinstance(error, psycopg2.OperationalError):
        return PassingFailure(f"Postgres went away: {text.rstrip('.')}.")
    if isinstance(error, psycopg2.Error):
        return LastingFailure(f"Postgres: {text.rstrip('.')}.")
    return UnexpectedFailure(f"{type(error).__name__}: {text}")


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
    except NothingToDo as error:
        code = _end(EXIT_NOTHING_TO_DO, "nothing_to_do", error)
        result = NothingToDoResult(status="nothing_to_do", reason=str(error))
    except stopping.Stopped as error:
        code = _end(128 + error.signal, "interrupted", error)
    except Exception as error:
        code, result = _failed(service, error)
    if result is not None and (problem := _write(result)):
        code = _end(code or EXIT_CONFIGURATION, "configuration", problem)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _failed(service: str, error: Exception) -> tuple[int, Result | None]:
    failure = failure_of(error)
    ours = failure.kind == "unexpected"
    if ours or (isinstance(failure, LastingFailure) and isinstance(error, psycopg2.Error)):
        # What the database refuses may be a fault of ours, too: the statement is in the traceback.
        logs.get_logger(service).error("unexpected_error" if ours else "database_refuses", exc_info=error)
    ending = _ENDINGS[failure.kind]
    code = _end(ending.code, ending.label, failure)
    if not ending.has_result:
        return code, None
    return code, {**failure.result, **FailedResult(status="failed", failure=failure.kind, error=str(failure))}


def _figures(result: Result) -> dict[str, Any]:
    """What fits into a line of the log."""
    return {name: value for name, value in result.items() if isinstance(value, str | int | float)}


def _end(code: int, label: EndingLabel, reason: BaseException | str) -> int:
    print(f"{label}: {reason}", file=sys.stderr)  # noqa: T201
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
