"""`.env`: what it says, and writing it. Standard library only: `./fraud up` has nothing else.

Docker Compose reads the same file. A value is read here as Compose reads it, or refused with a sentence where
Compose would put a variable in its place; so both ways of running know the same secrets.
"""

from __future__ import annotations

import base64
import re
import secrets as random
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from config.constants import API_CLIENTS, DEVELOPMENT_SECRET_MARK
from fraud_embedded.private_files import write_private

# What a person may also set for one start; secrets come from `.env` alone, so that credentials that happen to
# be exported in a shell never reach a server.
SITE_CHOICES: Final = (
    "APP_ENV",
    "FRAUD_CONTRACT",
    "FRAUD_CONTRACTS_DIR",
    "FRAUD_CONFIG_DIR",
    "KAFKA_TOPIC",
    "KAFKA_GROUP",
    "DATA_DRIFT_THRESHOLD",
    "CONCEPT_DRIFT_THRESHOLD",
    "MIN_RECALL_THRESHOLD",
    "MIN_PRECISION_THRESHOLD",
    "LOG_LEVEL",
)
_DEFAULT_SECRET: Final = re.compile(rf"{DEVELOPMENT_SECRET_MARK}[\w-]*=?")
_REST: Final = r"\s*(?:#.*)?$"
# A backslash escapes the quote and stands for itself elsewhere.
_SINGLE: Final = re.compile(r"'((?:[^'\\]|\\.)*)'" + _REST)
_DOUBLE: Final = re.compile(r'"([^"\\$]*)"' + _REST)
_PLAIN: Final = re.compile(r"""[^\s#$'"]*""")


class BadDotenv(Exception):
    """A line cannot be read the same way by both; one sentence, without the value."""


def read(path: Path) -> dict[str, str]:
    """What the file says.

    Raises:
        FileNotFoundError: there is none.
        BadDotenv: a value can be misread.
    """
    return parse(path.read_text("utf-8"))


def parse(text: str) -> dict[str, str]:
    """`NAME=value` lines, quoted or not; nothing is expanded.

    Raises:
        BadDotenv: a value can be misread.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            values[name.strip()] = _value(name.strip(), value.strip())
    return values


def _value(name: str, text: str) -> str:
    if text.startswith("'"):
        if found := _SINGLE.match(text):
            return found[1].replace("\\'", "'")
        raise BadDotenv(f"{name} in .env: the single quotes do not end (a quote inside is written \\').")
    if text.startswith('"'):
        if found := _DOUBLE.match(text):
            return found[1]
        raise BadDotenv(f'{name} in .env: \\, $ and " mean something in double quotes: use single quotes.')
    plain = text.partition(" #")[0].strip()
    if "$" in plain.replace("$$", ""):
        raise BadDotenv(
            f"{name} in .env: $ begins the name of a variable: put the value in single quotes, or write $$."
        )
    return plain.replace("$$", "$")


def written(value: str) -> str:
    """A value as both read it.

    Raises:
        BadDotenv: there is no such way: a line break, or a backslash where a quote would follow it.
    """
    if _PLAIN.fullmatch(value):
        return value
    if "\n" in value or "\r" in value or "\\'" in value or value.endswith("\\"):
        raise BadDotenv(
            "A value with a line break, or with \\ before ' or at its end, cannot be written to .env."
        )
    quoted = value.replace("'", "\\'")
    return f"'{quoted}'"


def ensure(file: Path, template: Path) -> list[str]:
    """Write `file` with random secrets where there is none; add secrets that an older one lacks.

    Nothing that is set is changed.

    Returns:
        The names written.

    Raises:
        BadDotenv: what is there cannot be read.
    """
    example = template.read_text("utf-8")
    if not file.exists():
        text = with_random_secrets(example)
        _replace_private(file, text)
        return sorted(parse(text))
    present = file.read_text("utf-8")
    known = parse(present)
    missing = {name: value for name, value in parse(example).items() if name not in known}
    if missing:
        inherited = _from_api_keys(known)
        made = {name: value for name, value in missing.items() if name not in inherited}
        lines = with_random_secrets(_lines(made)) + _lines(
            {name: written(value) for name, value in inherited.items() if name in missing}
        )
        end = "" if present.endswith("\n") else "\n"
        _replace_private(file, f"{present}{end}\n# Added because this version needs them\n{lines}")
    return sorted(missing)


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _from_api_keys(known: Mapping[str, str]) -> dict[str, str]:
    """Once the platform's own clients stood in API_KEYS: they keep their secrets."""
    entries = (entry.strip().partition(":") for entry in known.get("API_KEYS", "").split(","))
    secrets = {client: secret for client, _, secret in entries if secret}
    return {f"API_CLIENT_SECRET_{name.upper()}": secrets[name] for name in API_CLIENTS if name in secrets}


def with_random_secrets(template: str) -> str:
    """Every development secret replaced by a random one, the same mark by the same secret."""
    made: dict[str, str] = {}

    def secret(mark: str) -> str:
        # A mark that ends so stands for a key, 32 bytes in base64.
        key = base64.urlsafe_b64encode(random.token_bytes(32)).decode("ascii")
        return made.setdefault(mark, key if mark.endswith("=") else random.token_hex(32))

    lines = []
    for line in template.splitlines(keepends=True):
        if line.lstrip().startswith("#"):
            lines.append(line)
            continue
        lines.append(_DEFAULT_SECRET.sub(lambda found: secret(found.group()), line))
    return "".join(lines)


def _replace_private(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.new")
    write_private(staging, text)
    staging.replace(path)
