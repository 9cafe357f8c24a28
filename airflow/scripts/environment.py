"""What Airflow's commands find in their environment: secrets from files, and addresses with their passwords.

`airflow` on PATH and the scripts complete it themselves, so that a command run in a container by hand
(`docker exec`) sees what the container's own process sees. Addresses are made here and nowhere else: a
password may hold any character.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

DATABASE: Final = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
BROKER: Final = "AIRFLOW__CELERY__BROKER_URL"
RESULTS: Final = "AIRFLOW__CELERY__RESULT_BACKEND"
_PASSWORDS: Final = {DATABASE: "AIRFLOW_DB_PASSWORD", BROKER: "REDIS_PASSWORD", RESULTS: "REDIS_PASSWORD"}
_SECRETS: Final = "/run/secrets/"
_RESULTS_PATH: Final = "/1"  # of Redis' numbered databases; the queue is in the one of the broker's address


class Refused(Exception):
    """A variable is missing or wrong; the message is one sentence that names it."""


class Unreadable(Refused):
    """A file that should hold a secret cannot be read."""


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


def required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    """The variable's value.

    Raises:
        Refused: it is not set.
    """
    if not environ.get(name):
        raise Refused(f"{name} is not set: set it to {meaning}.")
    return environ[name]


def number(environ: Mapping[str, str], name: str, default: float, most: float) -> float:
    """The variable's value, a number above 0 and at most `most`; `default` where it is not set.

    Raises:
        Refused: it is not such a number.
    """
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= most:
        raise Refused(f"{name} is {text}: set a number above 0 and at most {most}.")
    return value


def port_number(environ: Mapping[str, str], name: str, example: int) -> int | None:
    """The variable's value, a port; None where it is not set.

    Raises:
        Refused: it is not a port; the sentence gives the example.
    """
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Refused(f"{name} is {text}: set a port number, as {example}.")
    return int(text)


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
