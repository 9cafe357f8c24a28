"""What a job checks before it works: that each part it uses answers and accepts its log-in.

`./fraud doctor` runs its checks the same way. Checks run side by side, each with a time limit, so that a
server that hangs is a failure and not a job that hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from config.services import Backend
from config.settings import load
from fraud_adapters.job.failures import JobFailed, PassingFailure
from fraud_adapters.preflight import backends
from fraud_adapters.preflight.together import TimedOut, run_together

SECONDS: Final = 15.0  # of one check; more than the time in which the clients give up by themselves

# What to do if a part fails a job's check; the failure's own sentence names the address and the cause.
FIXES: Final[Mapping[Backend, str]] = {
    Backend.POSTGRES: "Start Postgres, or correct DATABASE_URL (or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD).",
    Backend.KAFKA: "Start Kafka, or correct KAFKA_BOOTSTRAP_SERVERS.",
    Backend.MLFLOW: "Start MLflow, or correct MLFLOW_TRACKING_URI.",
    Backend.OBJECT_STORE: "Start the object store, or correct S3_ENDPOINT_URL.",
    Backend.API: "Start the scoring API, or correct API_URL.",
}


def require(*parts: Backend, seconds: float = SECONDS) -> None:
    """Check that all `parts` can be used with the settings of the environment.

    Args:
        seconds: the time limit of the checks, which run at the same time.

    Raises:
        ConfigurationError: a variable is missing or wrong.
        JobFailed: a part cannot be used; the sentence names the part and the fix. If several cannot, it is
            about the first, and names the others.
    """
    checks = {part: _check_of(part) for part in parts}
    outcomes = run_together(checks, seconds)
    failures = {part: error for part, error in outcomes.items() if isinstance(error, Exception)}
    if not failures:
        return
    part, first = next(iter(failures.items()))
    others = ", ".join(other.value for other in failures if other is not part)
    raise failure(part, first).extended(after=f" Also not available: {others}." if others else "") from first


def failure(part: Backend, error: Exception) -> JobFailed:
    """What a failed check stops a job with: the kind and the sentence of the error, and the fix.

    Raises:
        Exception: `error` itself, if it is a bug.
    """
    if isinstance(error, TimedOut):
        return PassingFailure(f"{NAMES[part]} {error}. {FIXES[part]}")
    if not isinstance(error, JobFailed):
        raise error
    # The sentence about a wrong log-in names the variable already.
    return error if error.kind == "configuration" else error.extended(after=f" {FIXES[part]}")


NAMES: Final[Mapping[Backend, str]] = {
    Backend.POSTGRES: "Postgres",
    Backend.KAFKA: "Kafka",
    Backend.MLFLOW: "MLflow",
    Backend.OBJECT_STORE: "The object store",
    Backend.API: "The scoring API",
}


def _check_of(part: Backend) -> Callable[[], str]:
    settings_class, check = backends.CHECKS[part]
    # Settings are read before any connection is opened: a wrong variable is reported first.
    return partial(check, load(settings_class))


__all__ = ["FIXES", "NAMES", "SECONDS", "failure", "require"]
