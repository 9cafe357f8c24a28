"""The users of the MLflow server, and what each may do.

MLflow's permissions are one half: they cannot tell an alias from a version's other properties, and let every
user create experiments and models. The other half is a list of the requests with which a user may write.
Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ADMIN: Final = "admin"
API: Final = "api"
TRAINER: Final = "trainer"
BATCH: Final = "batch"
MONITOR: Final = "monitor"
ROLLOUT: Final = "rollout"
RELEASE: Final = "release"
PERSON: Final = "person"
NAMES: Final = (ADMIN, TRAINER, BATCH, MONITOR, ROLLOUT, API, RELEASE, PERSON)
PERSON_RELEASES: Final = "MLFLOW_PERSON_RELEASES"
SHORTEST_PASSWORD: Final = 12  # MLflow refuses shorter ones
_DEFAULT_MARK: Final = "change-me"  # marks the passwords of `.env.example`
_ROUTE: Final = r"/(?:ajax-)?api/\d\.0/mlflow"
_READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Requests that read, although they are POST.
_SEARCHES: Final = re.compile(
    rf"{_ROUTE}/(?:experiments|runs|logged-models|traces)/search|{_ROUTE}/experiments/search-datasets|/graphql"
)
_ALIASES: Final = re.compile(rf"{_ROUTE}/registered-models/alias")
_TRAINING: Final = re.compile(
    rf"{_ROUTE}/(?:experiments|runs|logged-models|registered-models|model-versions)(?:/.*)?"
    r"|/(?:ajax-)?api/2\.0/mlflow-artifacts/(?:artifacts|mpu|presigned)/.*"
)


class WrongVariable(Exception):
    """A variable is missing or wrong; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do besides reading.

    Attributes:
        grants: MLflow's permission on all resources of a type, by the type.
        writes: the paths of the requests with which the user may write; None allows all of them.
    """

    grants: Mapping[str, str]
    writes: re.Pattern[str] | None


_NOTHING: Final = re.compile(r"(?!)")
_READS: Final = Rights({"experiment": "READ", "registered_model": "READ"}, _NOTHING)
# To delete an alias one must MANAGE the model; what else that allows is not among `writes`.
_RELEASES: Final = Rights(
    {"experiment": "READ", "registered_model": "MANAGE", "registered_model_version": "READ"}, _ALIASES
)
# MLflow lets a user manage what it creates. The grants on runs and versions take precedence over that, so the
# trainer deletes neither.
_TRAINS: Final = Rights(
    dict.fromkeys(
        ("experiment", "run", "logged_model", "registered_model", "registered_model_version"), "EDIT"
    ),
    _TRAINING,
)
# The monitor logs runs of its own, and links them from the version that they are about.
_WATCHES: Final = Rights(
    dict.fromkeys(("experiment", "run", "registered_model_version"), "EDIT") | {"registered_model": "READ"},
    re.compile(
        rf"{_ROUTE}/(?:experiments|runs)(?:/.*)?|{_ROUTE}/model-versions/set-tag"
        r"|/(?:ajax-)?api/2\.0/mlflow-artifacts/(?:artifacts|mpu|presigned)/.*"
    ),
)
_ADMINISTERS: Final = Rights({}, None)


@dataclass(frozen=True, slots=True)
class User:
    """A user of the server."""

    name: str
    password: str = field(repr=False)
    rights: Rights

    @property
    def is_admin(self) -> bool:
        return self.name == ADMIN


def password_variable(name: str) -> str:
    """The variable that holds a user's password."""
    return f"MLFLOW_{name.upper()}_PASSWORD"


def rights(environ: Mapping[str, str]) -> dict[str, Rights]:
    """The rights of each user.

    Raises:
        WrongVariable: MLFLOW_PERSON_RELEASES is neither 0 nor 1.
    """
    person_releases = environ.get(PERSON_RELEASES) or "0"
    if person_releases not in {"0", "1"}:
        raise WrongVariable(f"{PERSON_RELEASES}: write 1, or 0 for a person who only reads.")
    person = _RELEASES if person_releases == "1" else _READS
    return {
        ADMIN: _ADMINISTERS,
        TRAINER: _TRAINS,
        BATCH: _READS,
        MONITOR: _WATCHES,
        ROLLOUT: _READS,
        API: _READS,
        RELEASE: _RELEASES,
        PERSON: person,
    }


def users(environ: Mapping[str, str]) -> list[User]:
    """All users, with the passwords of the environment.

    Raises:
        WrongVariable: a password is missing, too short, or in production still a default.
    """
    return [User(name, _password(name, environ), granted) for name, granted in rights(environ).items()]


def may(user_rights: Rights | None, method: str, path: str) -> bool:
    """Whether a request is one that a user may send.

    A user that an administrator made by hand has no rights here: MLflow's own permissions decide alone.
    """
    if user_rights is None or user_rights.writes is None or method in _READING_METHODS:
        return True
    is_search = method == "POST" and _SEARCHES.fullmatch(path) is not None
    return is_search or user_rights.writes.fullmatch(path) is not None


def _password(name: str, environ: Mapping[str, str]) -> str:
    variable = password_variable(name)
    password = environ.get(variable) or ""
    if not password:
        raise WrongVariable(f"{variable} is not set: set it in .env or in the environment.")
    if len(password) < SHORTEST_PASSWORD:
        raise WrongVariable(f"{variable}: MLflow asks for at least {SHORTEST_PASSWORD} characters.")
    if not password.isascii():
        raise WrongVariable(f"{variable}: write ASCII characters alone, which every client encodes alike.")
    if environ.get("APP_ENV") == "production" and _DEFAULT_MARK in password:
        raise WrongVariable(
            f"{variable} still has its development default, which production refuses: "
            "set a secret of your own in .env."
        )
    return password
