"""What a job is: its service, its environment, and the interface of what runs it.

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
RESULT_LIMIT_BYTES: Final = 64 * 1024  # a result is a summary and references, never data

# What a job may see of its worker's environment, as far as it is set; nothing here is secret.
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
    "LOG_LEVEL",
)
_DATABASE_URL_OF: Final = "DATABASE_URL_"  # a service's role
_SECRET_WORDS: Final = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE_KEY|ACCESS_KEY|API_KEYS")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")


class JobRefused(Exception):
    """The job cannot be started as it is configured; the message names the variable and the fix."""


class JobFailed(Exception):
    """The job was started or waited for, and did not do its work; one sentence."""


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
    """One job: what a runner needs to run it, in a process or in a container.

    `name` is unique to one try of one task, and the same whenever it is computed for that try.
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
        """What it does, for messages."""
        return " ".join(self.command).removeprefix("python -m ")

    @property
    def container(self) -> str:
        """The name of its container; that of a single job is its lock."""
        return self.name if self.single is None else f"fraud-single-{self.single}"


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended. `exit_code` is negative for a signal; `problem` says why there is no result."""

    exit_code: int
    result: dict[str, Any] | None = None
    problem: str = ""


class JobRunner(Protocol):
    """What runs jobs: here as processes, elsewhere as containers."""

    def run(self, spec: JobSpec, line: Callable[[str], None]) -> JobOutcome:
        """Run the job to its end, giving its output to `line`, line by line, as it comes.

        Raises:
            JobRefused: the runner is not configured for it.
            JobFailed: it could not be run, or was killed.
        """

    def kill(self) -> None:
        """End the running job soon; safe in a signal handler, and when nothing runs."""


def check_service(service: str) -> Service:
    """The service of that name.

    Raises:
        ValueError: there is none.
    """
    if service not in SERVICES:
        raise ValueError(f"service: there is no service {service!r}; services are {', '.join(SERVICES)}.")
    return SERVICES[service]


def check_environment(environment: object, *, private: bool = False) -> None:
    """Refuse what a DAG must not set, or not where the web UI shows it.

    Raises:
        ValueError: it is no mapping, or a name is wrong, reserved or looks secret.
    """
    if not isinstance(environment, Mapping):
        raise ValueError("environment: write a mapping of variable names to values.")
    for name in environment:
        if not (isinstance(name, str) and _VARIABLE.fullmatch(name)):
            raise ValueError(f"environment: {name!r} is no variable name: use capitals, digits and _.")
        if name in RESERVED:
            raise ValueError(f"environment: {name} is set by the platform itself: take it out.")
        if _SECRET_WORDS.search(name) and not private:
            raise ValueError(
                f"environment: {name} looks like a secret, which the web UI would show: "
                "give it as private_environment, or to the service as a private variable."
            )


def image_name(service: Service, worker: Mapping[str, str]) -> str:
    """The service's image as this installation has it: JOB_IMAGE_PREFIX, its name, JOB_IMAGE_TAG."""
    prefix = worker.get("JOB_IMAGE_PREFIX") or "fraud-detection/"
    return f"{prefix}{service.image}:{worker.get('JOB_IMAGE_TAG') or 'local'}"


def public_environment(worker: Mapping[str, str]) -> dict[str, str]:
    """The public variables of every job; hosts default to Compose's."""
    names = ((name, worker.get(name) or constants.ENV_VARS.get(name)) for name in PUBLIC_VARIABLES)
    return {name: value for name, value in names if value}


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
    """The secret's value, "" where there is none."""
    part = _variable(source, worker)
    value = worker.get(part) or ""
    if part == source or not value:
        return value
    return _database_url(source.removeprefix(_DATABASE_URL_OF), value, worker)


def _variable(source: str, worker: Mapping[str, str]) -> str:
    """The worker's variable that holds it: of a database's address maybe only the password."""
    role = source.removeprefix(_DATABASE_URL_OF)
    in_parts = role != source and not worker.get(source) and worker.get("DB_HOST")
    return services.role_password(role) if in_parts else source


def _database_url(role: str, password: str, worker: Mapping[str, str]) -> str:
    port, name = (worker.get(part) or constants.ENV_VARS[part] for part in ("DB_PORT", "DB_NAME"))
    [user] = [user for name, user in constants.SERVICE_ROLES.items() if services.variable(name) == role]
    return f"postgresql://{user}:{quote(password, safe='')}@{worker['DB_HOST']}:{port}/{quote(name, safe='')}"


def identify(dag_id: str, task_id: str, run_id: str, map_index: int, try_number: int) -> dict[str, str]:
    """Labels that say which try of which task a job belongs to."""
    return {
        "fraud.dag_id": dag_id,
        "fraud.task_id": task_id,
        "fraud.run_id": run_id,
        "fraud.map_index": str(map_index),
        "fraud.try_number": str(try_number),
    }


def job_name(labels: Mapping[str, str]) -> str:
    """A name a container may have, at most 100 characters, made of the labels alone."""
    digest = hashlib.sha256("\0".join(labels.values()).encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{labels['fraud.dag_id']}.{labels['fraud.task_id']}")
    return f"fraud-job-{readable[:70]}-{digest}-{labels['fraud.try_number']}"
