"""Defines jobs: their service, their environment, and the interface of runners.

Standard library only: every DAG file imports this module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import quote

from config import constants, services
from config.services import JobLimits, Jobs, Service

RESULT_PATH: Final = "RESULT_PATH"
# Where jobs reach the API, if that is not where the worker does: through the gateway, which splits requests.
JOB_API_URL: Final = "JOB_API_URL"
RESULT_LIMIT_BYTES: Final = 64 * 1024  # a result is a summary and references, never data

# The variables of the worker that are passed to jobs if they are set; none of them is secret.
PUBLIC_VARIABLES: Final = (
    "APP_ENV",
    "FRAUD_CONTRACT",
    "FRAUD_CONTRACTS_DIR",
    "FRAUD_CONFIG_DIR",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_TOPIC",
    "KAFKA_GROUP",
    "API_URL",
    "MLFLOW_TRACKING_URI",
    "S3_ENDPOINT_URL",
    "AWS_REGION",
    "DATA_DRIFT_THRESHOLD",
    "CONCEPT_DRIFT_THRESHOLD",
    "MIN_RECALL_THRESHOLD",
    "MIN_PRECISION_THRESHOLD",
    "TRAINER_AUTOML",
    "DASK_SCHEDULER",
    "LOG_LEVEL",
)
_DATABASE_URL_OF: Final = "DATABASE_URL_"  # a service's role
_SECRET_WORDS: Final = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE_KEY|ACCESS_KEY|API_KEYS")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")


class JobRefused(Exception):
    """The job cannot be started as it is configured; the message names the variable and the fix."""


class JobFailed(Exception):
    """The job failed, or could not be started or waited for; the message is one sentence."""


SERVICES: Final[Mapping[str, Service]] = {
    one.name: one for one in services.with_jobs(Jobs.SCHEDULED, Jobs.UNSCHEDULED)
}
RESERVED: Final = frozenset(
    {
        RESULT_PATH,
        "API_CLIENT_ID",
        "PATH",
        "HOME",
        "PYTHONPATH",
        "PYTHONHOME",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
    }
    | {name for service in SERVICES.values() for name in (*service.private, *service.fixed)}
)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything a runner needs to run a job in a process or container.

    `name` is unique to one try of one task and deterministic.
    """

    name: str
    labels: Mapping[str, str]
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    private: Mapping[str, str] = field(repr=False)
    single: str | None = None
    limits: JobLimits = field(default_factory=JobLimits)
    network: str | None = None

    @property
    def title(self) -> str:
        """A short description for messages."""
        return " ".join(self.command).removeprefix("python -m ")

    @property
    def container(self) -> str:
        """The name of its container; for a single job it serves as the lock."""
        return self.name if self.single is None else f"fraud-single-{self.single}"


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended. `exit_code` is negative for a signal; `problem` says why there is no result."""

    exit_code: int
    result: dict[str, Any] | None = None
    problem: str = ""


class JobRunner(Protocol):
    """Runs jobs, as processes or as containers."""

    def run(self, spec: JobSpec, line: Callable[[str], None]) -> JobOutcome:
        """Run the job to its end and pass its output to `line`, line by line, as it arrives.

        Raises:
            JobRefused: the runner is not configured for it.
            JobFailed: the job could not be run, or was killed.
        """

    def kill(self) -> None:
        """Stop the running job; safe in a signal handler, and if no job runs."""


def check_service(service: str) -> Service:
    """The service of that name.

    Raises:
        ValueError: there is none.
    """
    if service not in SERVICES:
        raise ValueError(f"service: there is no service {service!r}; services are {', '.join(SERVICES)}.")
    return SERVICES[service]


def check_environment(environment: object, *, private: bool = False) -> None:
    """Check the environment a DAG sets for a job; the web UI shows it unless `private`.

    Raises:
        ValueError: it is not a mapping, or a name is invalid, reserved or looks secret.
    """
    if not isinstance(environment, Mapping):
        raise ValueError("environment: write a mapping of variable names to values.")
    for name in environment:
        if not (isinstance(name, str) and _VARIABLE.fullmatch(name)):
            raise ValueError(f"environment: {name!r} is not a variable name: use capitals, digits and _.")
        if name in RESERVED:
            raise ValueError(f"environment: {name} is set by the platform itself: remove it.")
        if _SECRET_WORDS.search(name) and not private:
            raise ValueError(
                f"environment: {name} looks like a secret, which the web UI would show: "
                "give it as private_environment, or to the service as a private variable."
            )


def image_name(service: Service, worker: Mapping[str, str]) -> str:
    """The service's image: JOB_IMAGE_PREFIX, its name, JOB_IMAGE_TAG."""
    prefix = worker.get("JOB_IMAGE_PREFIX") or "fraud-detection/"
    return f"{prefix}{service.image}:{worker.get('JOB_IMAGE_TAG') or 'local'}"


def public_environment(worker: Mapping[str, str]) -> dict[str, str]:
    """The public variables of every job; hosts default to Compose's."""
    names = ((name, worker.get(name) or constants.ENV_VARS.get(name)) for name in PUBLIC_VARIABLES)
    environment = {name: value for name, value in names if value}
    if address := worker.get(JOB_API_URL):
        environment["API_URL"] = address
    return environment


def private_environment(service: Service, worker: Mapping[str, str]) -> dict[str, str]:
    """The secrets of one service, and no other's.

    Raises:
        JobRefused: one of them is not set for the worker.
    """
    if missing := missing_secrets(service, worker):
        raise JobRefused(f"{missing[0]} is not set for Airflow's workers: {service.module} needs it.")
    return {name: _secret(source, worker) for name, source in service.private.items()}


def missing_secrets(service: Service, worker: Mapping[str, str]) -> list[str]:
    """The variables that a worker lacks to run the service's jobs."""
    return [_variable(source, worker) for source in service.private.values() if not _secret(source, worker)]


def _secret(source: str, worker: Mapping[str, str]) -> str:
    """The secret's value, "" if there is none."""
    variable = _variable(source, worker)
    value = worker.get(variable) or ""
    if variable == source or not value:
        return value
    return _database_url(source.removeprefix(_DATABASE_URL_OF), value, worker)


def _variable(source: str, worker: Mapping[str, str]) -> str:
    """The worker's variable for the secret; for a database's address it may hold only the password."""
    role = source.removeprefix(_DATABASE_URL_OF)
    is_password_only = role != source and not worker.get(source) and worker.get("DB_HOST")
    return services.role_password(role) if is_password_only else source


def _database_url(role: str, password: str, worker: Mapping[str, str]) -> str:
    port, name = (worker.get(variable) or constants.ENV_VARS[variable] for variable in ("DB_PORT", "DB_NAME"))
    [user] = [user for name, user in constants.SERVICE_ROLES.items() if services.variable(name) == role]
    return f"postgresql://{user}:{quote(password, safe='')}@{worker['DB_HOST']}:{port}/{quote(name, safe='')}"


def task_labels(dag_id: str, task_id: str, run_id: str, map_index: int, try_number: int) -> dict[str, str]:
    """The labels that identify the try of a task a job belongs to."""
    return {
        "fraud.dag_id": dag_id,
        "fraud.task_id": task_id,
        "fraud.run_id": run_id,
        "fraud.map_index": str(map_index),
        "fraud.try_number": str(try_number),
    }


def job_name(labels: Mapping[str, str]) -> str:
    """A valid container name of at most 100 characters, derived from the labels alone."""
    digest = hashlib.sha256("\0".join(labels.values()).encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{labels['fraud.dag_id']}.{labels['fraud.task_id']}")
    return f"fraud-job-{readable[:70]}-{digest}-{labels['fraud.try_number']}"
