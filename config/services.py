"""The table of services: one row for each, from which every list of services is derived.

A new service needs a row here, its package in `services/`, a migration with the privileges of its role, and
entries in the Compose files and `.env.example`; tests compare these with the rows. Standard library only: the
launcher and Airflow's image, which contain none of our packages, read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class Backend(StrEnum):
    """A server that a service may connect to."""

    POSTGRES = "postgres"  # with a role of its own
    KAFKA = "kafka"
    MLFLOW = "mlflow"  # as a user of its own
    OBJECT_STORE = "object store"  # the bucket of runs
    API = "api"  # not named in `uses`: it follows from `scopes`


class Jobs(Enum):
    """Whether a service's verbs run as jobs, which FraudDockerOperator starts."""

    NONE = "it is a server"
    UNSCHEDULED = "they may, but Airflow's workers do not have its secrets"
    SCHEDULED = "they do: Airflow's workers have its secrets, and pass them to its jobs only"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The resource limits of a job's container; the docker-proxy has its own maxima."""

    memory_mib: int = 512
    cpus: float = 1.0
    pids: int = 256


@dataclass(frozen=True, slots=True)
class Service:
    """A service: `services/<name>` holds its package `fraud_<name>`.

    Attributes:
        image: the name without prefix and tag; several services may share an image.
        uses: the servers it connects to, besides the API; with Postgres it has its own role.
        scopes: the scopes of its API client; empty if it does not call the API.
        secrets: variables it needs besides those of its role, its client and its bucket.
        embedded: whether `make demo` runs it too.
        limits: the resource limits of its jobs.
    """

    name: str
    image: str
    jobs: Jobs
    uses: frozenset[Backend] = frozenset()
    scopes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    embedded: bool = True
    limits: JobLimits = JobLimits()

    @property
    def folder(self) -> str:
        return f"services/{self.name}"

    @property
    def module(self) -> str:
        return f"fraud_{self.name.replace('-', '_')}"

    @property
    def parts(self) -> frozenset[Backend]:
        """All servers it connects to."""
        return self.uses | {Backend.API} if self.scopes else self.uses

    @property
    def role(self) -> str | None:
        """Its log-in role in Postgres."""
        return self.module if Backend.POSTGRES in self.uses else None

    @property
    def private(self) -> dict[str, str]:
        """Its secret variables, and the variables of an Airflow worker that hold their values."""
        variables = {}
        if Backend.POSTGRES in self.uses:
            variables["DATABASE_URL"] = f"DATABASE_URL_{variable(self.name)}"
        if self.scopes:
            variables["API_CLIENT_SECRET"] = client_secret(self.name)
        if Backend.MLFLOW in self.uses:
            variables["MLFLOW_TRACKING_PASSWORD"] = mlflow_password(self.name)
        if Backend.OBJECT_STORE in self.uses:
            variables["AWS_ACCESS_KEY_ID"] = "RUNS_AWS_ACCESS_KEY_ID"
            variables["AWS_SECRET_ACCESS_KEY"] = "RUNS_AWS_SECRET_ACCESS_KEY"  # noqa: S105 - its name
        return variables | {name: name for name in self.secrets}

    @property
    def fixed(self) -> dict[str, str]:
        """Its variables that are the same in every installation."""
        client = {"API_CLIENT_ID": self.name} if self.scopes else {}
        user = {"MLFLOW_TRACKING_USERNAME": self.name} if Backend.MLFLOW in self.uses else {}
        return client | user


SERVICES: tuple[Service, ...] = (
    Service("producer", "jobs", Jobs.SCHEDULED, frozenset({Backend.POSTGRES, Backend.KAFKA})),
    Service(
        "streaming",
        "jobs",
        Jobs.SCHEDULED,
        frozenset({Backend.POSTGRES, Backend.KAFKA}),
        scopes=("predict",),
    ),
    Service(
        "trainer",
        "ml",
        Jobs.SCHEDULED,
        frozenset({Backend.POSTGRES, Backend.KAFKA, Backend.MLFLOW, Backend.OBJECT_STORE}),
        limits=JobLimits(memory_mib=3072, cpus=2.0),
    ),
    Service(
        "batch",
        "ml",
        Jobs.SCHEDULED,
        frozenset({Backend.POSTGRES, Backend.MLFLOW, Backend.OBJECT_STORE}),
        limits=JobLimits(memory_mib=2048, cpus=2.0),
    ),
    Service(
        "monitor",
        "ml",
        Jobs.SCHEDULED,
        frozenset({Backend.POSTGRES, Backend.KAFKA, Backend.MLFLOW, Backend.OBJECT_STORE}),
        limits=JobLimits(memory_mib=2048, cpus=2.0),
    ),
    Service(
        "rollout",
        "ml",
        Jobs.SCHEDULED,
        frozenset({Backend.POSTGRES, Backend.MLFLOW, Backend.OBJECT_STORE}),
        scopes=("predict", "read", "deploy"),
        limits=JobLimits(memory_mib=2048, cpus=2.0),
    ),
    # Its intervals need the libraries of the image `ml`.
    Service("feedback", "ml", Jobs.SCHEDULED, frozenset({Backend.POSTGRES})),
    Service(
        "api",
        "api",
        Jobs.UNSCHEDULED,
        frozenset({Backend.POSTGRES, Backend.KAFKA, Backend.MLFLOW}),
        secrets=("API_KEY_ENCRYPTION_SECRET",),
    ),
    Service(
        "audit",
        "audit",
        Jobs.UNSCHEDULED,
        frozenset({Backend.POSTGRES}),
        secrets=("AUDIT_ADMIN_PASSWORD",),
    ),
    # MLflow has its own database and its own bucket.
    Service("mlflow", "mlflow", Jobs.NONE),
    Service("docker-proxy", "docker-proxy", Jobs.NONE, embedded=False),
)

# Further users of MLflow: its administrator, who sets aliases, and a person.
MLFLOW_ADMIN: Final = "admin"
MLFLOW_RELEASE: Final = "release"
MLFLOW_PERSON: Final = "person"
ROLE_READONLY: Final = "fraud_readonly"  # may read everything except credentials
# Records alerts and Airflow's task runs by functions, and reads figures; Airflow's watch has it.
ROLE_WATCH: Final = "fraud_watch"
ROLE_GRAFANA: Final = "fraud_grafana"  # may read what monitoring found: no transaction, no prediction
# Further clients of the API: the DAGs, and the administrator.
_OTHER_CLIENTS: Final = {
    "airflow": ("predict", "read", "train", "deploy"),
    "admin": ("predict", "read", "label", "train", "deploy", "admin"),
}
# The packages that services are built on, and those that start them.
LIBRARIES: Final = ("services/core", "services/adapters")
EMBEDDED: Final = "services/embedded"
LAUNCHER: Final = "services/launcher"
MIGRATIONS: Final = "db_init"
CONFIG: Final = "config"


@dataclass(frozen=True, slots=True)
class Group:
    """The content of a lock file in `requirements/`.

    `packages` are folders with a pyproject.toml, `extras` dependency groups of the root's.
    """

    packages: tuple[str, ...]
    extras: tuple[str, ...] = ()


def variable(name: str) -> str:
    """The form of a service's or client's name in the names of variables."""
    return name.upper().replace("-", "_")


def role_password(service: str) -> str:
    """The variable that holds the password of a service's role."""
    return f"DB_PASSWORD_{variable(service)}"


def client_secret(client: str) -> str:
    """The variable that holds the secret of one of the platform's own clients of the API."""
    return f"API_CLIENT_SECRET_{variable(client)}"


def mlflow_password(user: str) -> str:
    """The variable that holds the password of a user of MLflow."""
    return f"MLFLOW_{variable(user)}_PASSWORD"


def mlflow_users() -> tuple[str, ...]:
    """The users of MLflow; services/mlflow says what each may do."""
    own = (service.name for service in SERVICES if Backend.MLFLOW in service.uses)
    return (MLFLOW_ADMIN, *own, MLFLOW_RELEASE, MLFLOW_PERSON)


def roles() -> dict[str, str]:
    """The log-in roles by the service's name, and those for reading, of Airflow's watch and of Grafana."""
    own = {service.name: service.role for service in SERVICES if service.role}
    return own | {"readonly": ROLE_READONLY, "watch": ROLE_WATCH, "grafana": ROLE_GRAFANA}


def clients() -> dict[str, tuple[str, ...]]:
    """The platform's own clients of the API, with their scopes."""
    return {service.name: service.scopes for service in SERVICES if service.scopes} | _OTHER_CLIENTS


def with_jobs(*kinds: Jobs) -> list[Service]:
    """The services whose verbs run as jobs of one of these kinds."""
    return [service for service in SERVICES if service.jobs in kinds]


def sources() -> tuple[str, ...]:
    """Folders from which our packages are imported."""
    return (".", MIGRATIONS, *LIBRARIES, *(service.folder for service in SERVICES), EMBEDDED, LAUNCHER)


def typed() -> list[str]:
    """The packages below `services/`, for the type checker."""
    libraries = [f"{folder}/fraud_{folder.rpartition('/')[2]}" for folder in (*LIBRARIES, EMBEDDED, LAUNCHER)]
    return libraries + [f"{service.folder}/{service.module}" for service in SERVICES]


def groups() -> dict[str, Group]:
    """The lock files in `requirements/`: one an image, and those of embedded run, tests and load test."""
    demo = (*_folders(service for service in SERVICES if service.embedded), EMBEDDED, MIGRATIONS)
    everything = (*_folders(SERVICES), EMBEDDED, MIGRATIONS)
    images = dict.fromkeys(service.image for service in SERVICES)
    return {
        "demo": Group(demo),
        # The load test is itself tested; what a person who only runs it needs is little.
        "test": Group(everything, ("test", "lint", "load")),
        "browser": Group(demo, ("test", "browser")),
        "load": Group((CONFIG,), ("load",)),
        **{
            image: Group(_folders(service for service in SERVICES if service.image == image))
            for image in images
        },
        "migrate": Group((MIGRATIONS,)),
    }


def _folders(services: Iterable[Service]) -> tuple[str, ...]:
    return tuple(service.folder for service in services)
