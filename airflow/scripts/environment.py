"""What Airflow's commands find in their environment: secrets from files, and addresses with their passwords.

`airflow` on PATH and the scripts complete it themselves, so that a command run in a container by hand
(`docker exec`) sees what the container's own process sees. Addresses are made here and nowhere else: a
password may hold any character.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

DATABASE: Final = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
BROKER: Final = "AIRFLOW__CELERY__BROKER_URL"
RESULTS: Final = "AIRFLOW__CELERY__RESULT_BACKEND"
_PASSWORDS: Final = {DATABASE: "AIRFLOW_DB_PASSWORD", BROKER: "REDIS_PASSWORD", RESULTS: "REDIS_PASSWORD"}
_SECRETS: Final = "/run/secrets/"
_RESULTS_PATH: Final = "/1"  # of Redis' numbered databases; the queue is in the one of the broker's address


class Unreadable(Exception):
    """A file that should hold a secret cannot be read; one sentence."""


def complete(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add what is missing: secrets of files, the address of the metadata, passwords of addresses.

    A process that has not been given Airflow's database password gets no address of it either.

    Raises:
        Unreadable: NAME_FILE names a file that cannot be read.
    """
    for name, value in list(_secrets(environ)):
        if not environ.get(name):
            environ[name] = value
    if environ.get("AIRFLOW_DB_PASSWORD") and environ.get("DB_HOST"):
        port = environ.get("DB_PORT") or "5432"
        made = f"postgresql+psycopg2://airflow@{environ['DB_HOST']}:{port}/airflow"
        environ.setdefault(DATABASE, made)
    if environ.get(BROKER):
        environ.setdefault(RESULTS, urlunsplit(urlsplit(environ[BROKER])._replace(path=_RESULTS_PATH)))
    for name, password in _PASSWORDS.items():
        if environ.get(name) and environ.get(password):
            environ[name] = with_password(environ[name], environ[password])


def with_password(address: str, password: str) -> str:
    """The address with the password, unless it has one."""
    parts = urlsplit(address)
    if parts.password is not None:
        return address
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def _secrets(environ: MutableMapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, path in environ.items():
        if not (name.endswith("_FILE") and path.startswith(_SECRETS)):
            continue
        try:
            yield name.removesuffix("_FILE"), Path(path).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(f"{name} is {path}: it cannot be read ({type(error).__name__}).") from None
