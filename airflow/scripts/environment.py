"""Completes the environment of Airflow's commands: secrets from files, and addresses with their passwords.

`airflow` on PATH and the scripts complete it themselves, so that a command run in a container by hand
(`docker exec`) has the same environment as the container's main process. Addresses are built only here,
because a password may contain any character.
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
_RESULTS_PATH: Final = "/1"  # the number of the Redis database; the queue uses that of the broker's address


class SettingError(Exception):
    """A variable is missing or invalid; the message is one sentence that names it."""


class SecretUnreadable(SettingError):
    """A file that should hold a secret cannot be read."""


def complete_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add what is missing: secrets from files, the address of the metadata database, passwords in addresses.

    A process without Airflow's database password does not get the database's address either.

    Raises:
        SecretUnreadable: NAME_FILE names a file that cannot be read.
    """
    for name, value in list(_secrets(environ)):
        if not environ.get(name):
            environ[name] = value
    if environ.get("AIRFLOW_DB_PASSWORD") and environ.get("DB_HOST"):
        port = environ.get("DB_PORT") or "5432"
        address = f"postgresql+psycopg2://airflow@{environ['DB_HOST']}:{port}/airflow"
        environ.setdefault(DATABASE, address)
    if environ.get(BROKER):
        environ.setdefault(RESULTS, urlunsplit(urlsplit(environ[BROKER])._replace(path=_RESULTS_PATH)))
    for name, password in _PASSWORDS.items():
        if environ.get(name) and environ.get(password):
            environ[name] = with_password(environ[name], environ[password])


def required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    """The variable's value.

    Raises:
        SettingError: it is not set.
    """
    if not environ.get(name):
        raise SettingError(f"{name} is not set: set it to {meaning}.")
    return environ[name]


def number(environ: Mapping[str, str], name: str, default: float, maximum: float) -> float:
    """The variable's value, a number above 0 and at most `most`; `default` where it is not set.

    Raises:
        SettingError: it is not such a number.
    """
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= maximum:
        raise SettingError(f"{name} is {text}: set a number above 0 and at most {maximum}.")
    return value


def port_number(environ: Mapping[str, str], name: str, example: int) -> int | None:
    """The variable's value, a port; None where it is not set.

    Raises:
        SettingError: it is not a port; the sentence gives the example.
    """
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingError(f"{name} is {text}: set a port number, such as {example}.")
    return int(text)


def with_password(address: str, password: str) -> str:
    """The address with the password, unless it has one."""
    parts = urlsplit(address)
    if parts.password is not None:
        return address
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def _secrets(environ: MutableMapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, path in environ.items():
        if not (name.endswith("_FILE") and path.startswith(_SECRETS)):
            continue
        try:
            yield name.removesuffix("_FILE"), Path(path).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SecretUnreadable(f"{name} is {path}: it cannot be read ({type(error).__name__}).") from None
