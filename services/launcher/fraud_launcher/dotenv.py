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
from config.services import client_secret
from config.text_files import NotText, read_utf8
from fraud_launcher.private_files import write_private

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
# What Compose takes off the left of a name and a value, and off the right of a value without quotes.
_SPACE: Final = "\t\v\f\r \x85\xa0"
_TRAILING: Final = (
    _SPACE
    + "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_ASSIGNMENT: Final = re.compile(r"(?:export[\t\f\r ]+)?([^=:]*)[=:](.*)", re.DOTALL)
_NAME: Final = re.compile(r"[\w.\-\[\]]+")
_REST: Final = rf"[{_SPACE}]*(?:#.*)?$"
# A backslash escapes the quote and stands for itself elsewhere.
_SINGLE: Final = re.compile(r"'((?:[^'\\]|\\.)*)'" + _REST)
_DOUBLE: Final = re.compile(r'"([^"\\$]*)"' + _REST)
_PLAIN: Final = re.compile(r"""[^\s#$'"]*""")
_NOT_A_COMMENT: Final = re.compile(r"[\t\v\f\x85\xa0]#")
# No environment variable can hold a NUL; the others are never meant.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class BadDotenv(Exception):
    """A line cannot be read the same way by both; one sentence, without the value."""


def read(path: Path) -> dict[str, str]:
    """What the file says.

    Raises:
        FileNotFoundError: there is none.
        BadDotenv: it cannot be read, or a line can be misread.
    """
    return parse(_text(path))


def _text(path: Path) -> str:
    try:
        return read_utf8(path)
    except NotText as error:
        raise BadDotenv(str(error)) from None


def parse(text: str) -> dict[str, str]:
    """`NAME=value` and `NAME: value` lines, quoted or not; nothing is expanded. The last of a name counts.

    Raises:
        BadDotenv: a line can be misread.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        statement = line.strip(_SPACE)
        if statement and not statement.startswith("#"):
            name, value = _assignment(number, statement)
            values[name] = value
    return values


def _assignment(number: int, statement: str) -> tuple[str, str]:
    # What stands there may be a piece of a secret: it is not shown.
    found = _ASSIGNMENT.fullmatch(statement)
    if found is None:
        raise BadDotenv(f".env: line {number}: has no =: write NAME=value, or # before a comment.")
    name = found[1].strip(_SPACE)
    if not _NAME.fullmatch(name):
        raise BadDotenv(f".env: line {number}: what stands before = or : is not a name: write NAME=value.")
    value = found[2].lstrip(_SPACE)
    if value.startswith("'"):
        value = _single_quoted(name, value)
    elif value.startswith('"'):
        value = _double_quoted(name, value)
    else:
        value = _unquoted(name, found[2])
    if _CONTROL.search(value):
        raise BadDotenv(f"{name} in .env: there is a control character in the value: remove it.")
    return name, value


def _single_quoted(name: str, text: str) -> str:
    if found := _SINGLE.match(text):
        return found[1].replace("\\'", "'")
    raise BadDotenv(
        f"{name} in .env: the single quotes do not end, or something follows them "
        "(a quote inside is written \\')."
    )


def _double_quoted(name: str, text: str) -> str:
    if found := _DOUBLE.match(text):
        return found[1]
    if "\\" in text or "$" in text:
        raise BadDotenv(f"{name} in .env: \\ and $ mean something in double quotes: use single quotes.")
    raise BadDotenv(
        f"{name} in .env: the double quotes do not end, or something follows them: use single quotes."
    )


def _unquoted(name: str, text: str) -> str:
    plain = text.lstrip(_SPACE)
    if plain.startswith("#") and text[0] in _SPACE:
        raise BadDotenv(
            f"{name} in .env: Compose takes a comment without a value before it as the value: "
            "put the comment on a line of its own, or the value in single quotes."
        )
    plain = plain.partition(" #")[0].rstrip(_TRAILING)
    if _NOT_A_COMMENT.search(plain):
        raise BadDotenv(
            f"{name} in .env: only a space and # begin a comment: "
            "put a space before #, or the value in single quotes."
        )
    if "$" in plain.replace("$$", ""):
        raise BadDotenv(
            f"{name} in .env: $ begins the name of a variable: put the value in single quotes, or write $$."
        )
    return plain.replace("$$", "$")


def written(value: str) -> str:
    """A value as both read it.

    Raises:
        BadDotenv: there is no such way: a control character, or a backslash where a quote would follow it.
    """
    if _PLAIN.fullmatch(value):
        return value
    if _CONTROL.search(value) or "\\'" in value or value.endswith("\\"):
        raise BadDotenv(
            "A value with a line break or other control character, or with \\ before ' or at its end, "
            "cannot be written to .env."
        )
    quoted = value.replace("'", "\\'")
    return f"'{quoted}'"


def ensure(file: Path, template: Path) -> list[str]:
    """Write `file` with random secrets where there is none; add secrets that an older one lacks.

    Nothing that is set is changed.

    Returns:
        The names written.

    Raises:
        BadDotenv: what is there cannot be read, or it cannot be written.
    """
    example = template.read_text("utf-8")
    try:
        present = _text(file)
    except FileNotFoundError:
        text = with_random_secrets(example)
        _replace_private(file, text)
        return sorted(parse(text))
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
    return {client_secret(name): secrets[name] for name in API_CLIENTS if name in secrets}


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
    try:
        write_private(staging, text)
        staging.replace(path)
    except OSError as error:
        raise BadDotenv(f"{path}: cannot be written: {error.strerror}.") from None
