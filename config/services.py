"""The platform's services: one row each, from which every list of them is derived.

A new service is a row here, its package below `services/`, a migration with the rights of its role, and its
entries in the Compose files and `.env.example`; tests hold these against the rows. Standard library only: the
launcher and Airflow's image, which hold none of our packages, read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class Backend(StrEnum):
    """What a service may need to reach, besides the API."""

    POSTGRES = "postgres"  # with a role of its own
    KAFKA = "kafka"
    MLFLOW = "mlflow"
    OBJECT_STORE = "object store"  # the bucket of runs


class Jobs(Enum):
    """Whether a service's verbs run as jobs, which FraudDockerOperator starts."""

    NONE = "it is a server"
    UNSCHEDULED = "they may, but Airflow's workers do not hold its secrets"
    SCHEDULED = "they do: Airflow's workers hold its secrets, and hand them to its jobs alone"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job in a container may use; the docker-proxy has maxima of its own."""

    memory_mib: int = 512
    cpus: float = 1.0
    pids: int = 256


@dataclass(frozen=True, slots=True)
class Service:
    """A service: `services/<name>` holds its package `fraud_<name>`.

    Attributes:
        image: name without prefix and tag; several services may share one.
        uses: what it reaches; with Postgres it has a role of its own.
        scopes: of its own client of the API; none where it does not call the API.
        secrets: variables it needs besides those of its role, its client and its bucket.
        embedded: whether `make demo` runs it too.
        limits: of its jobs.
    """

    name: str
    image: str
    jobs: Jobs
    uses: frozenset[Backend] = frozenset()
    scopes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    embedded: bool = True
    limits: Limits = Limits()

    @property
    def folder(self) -> str:
        return f"services/{self.name}"

    @property
    def module(self) -> str:
        return f"fraud_{self.name.replace('-', '_')}"

    @property
    def role(self) -> str | None:
        """Its log-in role in Postgres."""
        return self.module if Backend.POSTGRES in self.uses else None

    @property
    def private(self) -> dict[str, str]:
        """Its secret variables, and the variables of an Airflow worker they come from."""
        found = {}
        if Backend.POSTGRES in self.uses:
            found["DATABASE_URL"] = f"DATABASE_URL_{variable(self.name)}"
        if self.scopes:
            found["API_CLIENT_SECRET"] = client_secret(self.name)
        if Backend.OBJECT_STORE in self.uses:
            found["AWS_ACCESS_KEY_ID"] = "RUNS_AWS_ACCESS_KEY_ID"
            found["AWS_SECRET_ACCESS_KEY"] = "RUNS_AWS_SECRET_ACCESS_KEY"  # noqa: S105 - its name
        return found | {name: name for name in self.secrets}

    @property
    def fixed(self) -> dict[str, str]:
        """Its variables that are the same in every installation."""
        return {"API_CLIENT_ID": self.name} if self.scopes else {}


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
        frozenset({Backend.POSTGRES, Backend.MLFLOW, Backend.OBJECT_STORE}),
        limits=Limits(memory_mib=3072, cpus=2.0),
    ),
    Service(
        "api",
        "api",
        Jobs.UNSCHEDULED,
        frozenset({Backend.POSTGRES, Backend.KAFKA, Backend.MLFLOW}),
        secrets=("API_KEY_ENCRYPTION_SECRET",),
    ),
    # It has a database of its own, and a bucket of its own.
    Service("mlflow", "mlflow", Jobs.NONE),
    Service("docker-proxy", "docker-proxy", Jobs.NONE, embedded=False),
)

ROLE_READONLY: Final = "fraud_readonly"  # may read everything that is no credential
# Further clients of the API: the DAGs, and who administers by hand.
_OTHER_CLIENTS: Final = {
    "airflow": ("predict", "read", "train", "deploy"),
    "admin": ("predict", "read", "label", "train", "deploy", "admin"),
}
# What services are built on, and what starts them.
LIBRARIES: Final = ("services/core", "services/adapters")
EMBEDDED: Final = "services/embedded"
LAUNCHER: Final = "services/launcher"
MIGRATIONS: Final = "db_init"
CONFIG: Final = "config"


@dataclass(frozen=True, slots=True)
class Group:
    """What a lock of `requirements/` holds.

    `packages` are folders with a pyproject.toml, `extras` dependency groups of the root's.
    """

    packages: tuple[str, ...]
    extras: tuple[str, ...] = ()


def variable(name: str) -> str:
    """How a service or client is called in the names of variables."""
    return name.upper().replace("-", "_")


def role_password(service: str) -> str:
    """The variable that holds the password of a service's role."""
    return f"DB_PASSWORD_{variable(service)}"


def client_secret(client: str) -> str:
    """The variable that holds the secret of one of the platform's own clients of the API."""
    return f"API_CLIENT_SECRET_{variable(client)}"


def roles() -> dict[str, str]:
    """The log-in roles by the service's name, and the one that only reads."""
    return {one.name: one.role for one in SERVICES if one.role} | {"readonly": ROLE_READONLY}


def clients() -> dict[str, tuple[str, ...]]:
    """The platform's own clients of the API, with their scopes."""
    return {one.name: one.scopes for one in SERVICES if one.scopes} | _OTHER_CLIENTS


def with_jobs(*kinds: Jobs) -> list[Service]:
    """The services whose verbs run as jobs of one of these kinds."""
    return [one for one in SERVICES if one.jobs in kinds]


def sources() -> tuple[str, ...]:
    """Folders from which our packages are imported."""
    return (".", MIGRATIONS, *LIBRARIES, *(one.folder for one in SERVICES), EMBEDDED, LAUNCHER)


def typed() -> list[str]:
    """The packages below `services/`, for the type checker."""
    libraries = [f"{folder}/fraud_{folder.rpartition('/')[2]}" for folder in (*LIBRARIES, EMBEDDED, LAUNCHER)]
    return libraries + [f"{one.folder}/{one.module}" for one in SERVICES]


def groups() -> dict[str, Group]:
    """The locks of `requirements/`: one an image, those of the embedded run, the tests, the load test."""
    demo = (*_folders(one for one in SERVICES if one.embedded), EMBEDDED, MIGRATIONS)
    everything = (*_folders(SERVICES), EMBEDDED, MIGRATIONS)
    images = dict.fromkeys(one.image for one in SERVICES)
    return {
        "demo": Group(demo),
        # The load test is itself tested; what a person who only runs it needs is little.
        "test": Group(everything, ("test", "lint", "load")),
        "browser": Group(demo, ("test", "browser")),
        "load": Group((CONFIG,), ("load",)),
        **{image: Group(_folders(one for one in SERVICES if one.image == image)) for image in images},
        "migrate": Group((MIGRATIONS,)),
    }


def _folders(services: Iterable[Service]) -> tuple[str, ...]:
    return tuple(one.folder for one in services)
