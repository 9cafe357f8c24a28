"""Reads and writes `.env`. Standard library only: `./fraud up` has nothing else.

Docker Compose reads the same file. A value is read here as Compose reads it, or rejected if Compose would
substitute a variable in it, so both ways of running the platform use the same secrets.
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

# Variables that may also be set in the shell. Secrets come from `.env` alone, so that credentials which
# happen to be exported in a shell never reach a server.
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
    "TRAINER_AUTOML",
    "DASK_SCHEDULER",
    "LOG_LEVEL",
)
_DEFAULT_SECRET: Final = re.compile(rf"{DEVELOPMENT_SECRET_MARK}[\w-]*=?")
# The characters Compose strips from the left of names and values, and from the right of unquoted values.
_SPACE: Final = "\t\v\f\r \x85\xa0"
_TRAILING: Final = (
    _SPACE
    + "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_ASSIGNMENT: Final = re.compile(r"(?:export[\t\f\r ]+)?([^=:]*)[=:](.*)", re.DOTALL)
_NAME: Final = re.compile(r"[\w.\-\[\]]+")
_REST: Final = rf"[{_SPACE}]*(?:#.*)?$"
# A backslash escapes the quote and is literal elsewhere.
_SINGLE: Final = re.compile(r"'((?:[^'\\]|\\.)*)'" + _REST)
_DOUBLE: Final = re.compile(r'"([^"\\$]*)"' + _REST)
_PLAIN: Final = re.compile(r"""[^\s#$'"]*""")
_NOT_A_COMMENT: Final = re.compile(r"[\t\v\f\x85\xa0]#")
# Environment variables cannot contain NUL; other control characters are never intended.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class BadDotenv(Exception):
    """A line that Compose and this module would read differently; one sentence, without the value."""


def read(path: Path) -> dict[str, str]:
    """The variables in the file.

    Raises:
        FileNotFoundError: the file does not exist.
        BadDotenv: it cannot be read, or a line is ambiguous.
    """
    return parse(_text(path))


def _text(path: Path) -> str:
    try:
        return read_utf8(path)
    except NotText as error:
        raise BadDotenv(str(error)) from None


def parse(text: str) -> dict[str, str]:
    """Parse `NAME=value` and `NAME: value` lines, quoted or not; nothing is expanded. The last value of a
    name wins.

    Raises:
        BadDotenv: a line is ambiguous.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        statement = line.strip(_SPACE)
        if statement and not statement.startswith("#"):
            name, value = _assignment(number, statement)
            values[name] = value
    return values


def _assignment(number: int, statement: str) -> tuple[str, str]:
    # The line may contain part of a secret, so messages do not show it.
    match = _ASSIGNMENT.fullmatch(statement)
    if match is None:
        raise BadDotenv(f".env: line {number}: has no =: write NAME=value, or # before a comment.")
    name = match[1].strip(_SPACE)
    if not _NAME.fullmatch(name):
        raise BadDotenv(f".env: line {number}: the text before = or : is not a name: write NAME=value.")
    value = match[2].lstrip(_SPACE)
    if value.startswith("'"):
        value = _single_quoted(name, value)
    elif value.startswith('"'):
        value = _double_quoted(name, value)
    else:
        value = _unquoted(name, match[2])
    if _CONTROL.search(value):
        raise BadDotenv(f"{name} in .env: there is a control character in the value: remove it.")
    return name, value


def _single_quoted(name: str, text: str) -> str:
    if match := _SINGLE.match(text):
        return match[1].replace("\\'", "'")
    raise BadDotenv(
        f"{name} in .env: the single quotes do not end, or something follows them "
        "(a quote inside is written \\')."
    )


def _double_quoted(name: str, text: str) -> str:
    if match := _DOUBLE.match(text):
        return match[1]
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


def quote_value(value: str) -> str:
    """Quote a value so that Compose and this module read it alike.

    Raises:
        BadDotenv: that is impossible: it contains a control character, or a backslash before a quote.
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
    """Create `file` with random secrets, or add the secrets that an older file lacks.

    Existing values are not changed.

    Returns:
        The names written.

    Raises:
        BadDotenv: the file cannot be read or written.
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
        generated = {name: value for name, value in missing.items() if name not in inherited}
        lines = with_random_secrets(_lines(generated)) + _lines(
            {name: quote_value(value) for name, value in inherited.items() if name in missing}
        )
        end = "" if present.endswith("\n") else "\n"
        _replace_private(file, f"{present}{end}\n# Added because this version needs them\n{lines}")
    return sorted(missing)


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _from_api_keys(known: Mapping[str, str]) -> dict[str, str]:
    """The secrets of the platform's own clients, which earlier versions stored in API_KEYS."""
    entries = (entry.strip().partition(":") for entry in known.get("API_KEYS", "").split(","))
    secrets = {client: secret for client, _, secret in entries if secret}
    return {client_secret(name): secrets[name] for name in API_CLIENTS if name in secrets}


def with_random_secrets(template: str) -> str:
    """Replace every development secret by a random one; equal placeholders get the same secret."""
    secrets_by_mark: dict[str, str] = {}

    def secret(mark: str) -> str:
        # A placeholder that ends in `=` stands for a key: 32 bytes in base64.
        key = base64.urlsafe_b64encode(random.token_bytes(32)).decode("ascii")
        return secrets_by_mark.setdefault(mark, key if mark.endswith("=") else random.token_hex(32))

    lines = []
    for line in template.splitlines(keepends=True):
        if line.lstrip().startswith("#"):
            lines.append(line)
            continue
        lines.append(_DEFAULT_SECRET.sub(lambda match: secret(match.group()), line))
    return "".join(lines)


def _replace_private(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.new")
    try:
        write_private(staging, text)
        staging.replace(path)
    except OSError as error:
        raise BadDotenv(f"{path}: cannot be written: {error.strerror}.") from None
