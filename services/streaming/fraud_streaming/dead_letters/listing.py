"""`dead-letters`: lists the records that could not be processed, or exports them to a file for repair."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from config.job_results.streaming import DeadLettersResult, ExportResult, ShownDeadLetter
from config.settings import DatabaseSettings
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.dead_letters import (
    Selection,
    StoredDeadLetter,
    count_by_reason,
    dead_letters_between,
    newest_dead_letters,
    newest_id,
)
from fraud_core import strict_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CLIENT: Final = "fraud-streaming-dead-letters"
LISTED: Final = 50
PAGE: Final = 200


def show(database: DatabaseSettings, selection: Selection, limit: int | None) -> DeadLettersResult:
    """The newest dead letters, without their payloads, and how many there are by reason.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with closing(connect(database.url, CLIENT)) as conn, conn.cursor() as cur:
        counts = count_by_reason(cur, selection)
        letters = newest_dead_letters(cur, selection, limit or LISTED)
    return {
        "total": sum(counts.values()),
        "by_reason": counts,
        "dead_letters": [_describe(letter) for letter in letters],
    }


def export(database: DatabaseSettings, selection: Selection, limit: int | None, path: Path) -> ExportResult:
    """Write JSON lines, the oldest first: `record` is what can be repaired and put back.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        RefusedFailure: the file exists or cannot be written.
    """
    exported = incomplete = 0
    with closing(connect(database.url, CLIENT)) as conn, _new_file(path) as file:
        for letter in _limited(pages(conn, selection), limit):
            file.write(json.dumps(_line(letter)).encode() + b"\n")
            exported += 1
            incomplete += not letter.letter.complete
    return {"exported": exported, "incomplete": incomplete, "file": str(path)}


def pages(conn: Connection, selection: Selection) -> Iterator[list[StoredDeadLetter]]:
    """All selected dead letters, the oldest first, a page at a time; those stored meanwhile are left out."""
    with conn, conn.cursor() as cur:
        through = newest_id(cur)
    after = 0
    while True:
        with conn, conn.cursor() as cur:
            page = dead_letters_between(cur, selection, after, through, PAGE)
        if not page:
            return
        yield page
        after = page[-1].id


def _limited(letter_pages: Iterator[list[StoredDeadLetter]], limit: int | None) -> Iterator[StoredDeadLetter]:
    remaining = math.inf if limit is None else limit
    for page in letter_pages:
        for letter in page:
            if remaining <= 0:
                return
            remaining -= 1
            yield letter


def _describe(stored: StoredDeadLetter) -> ShownDeadLetter:
    letter = stored.letter
    return {
        "id": stored.id,
        "origin": stored.origin,
        "reason": letter.reason,
        "detail": letter.detail,
        "payload_bytes": letter.payload_bytes,
        "complete": letter.complete,
        "created_at": stored.created_at.isoformat(),
        "redriven_from": letter.redriven_from,
        "redriven_at": stored.redriven_at.isoformat() if stored.redriven_at else None,
    }


def _line(stored: StoredDeadLetter) -> dict[str, Any]:
    record = _record(stored)
    raw = {} if record is not None else _raw(stored.letter.payload or b"")
    return {**_describe(stored), "record": record, **raw}


def _record(stored: StoredDeadLetter) -> dict[str, Any] | None:
    """The record as JSON that every tool can read; None where the record is not a JSON object."""
    if not stored.letter.complete:
        return None
    try:
        content = strict_json.loads(stored.letter.payload or b"")
        json.dumps(content, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _raw(payload: bytes) -> dict[str, str]:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def _new_file(path: Path) -> BinaryIO:
    try:
        # O_EXCL never overwrites a file that somebody is repairing; 0o600 because the records are payments.
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise RefusedFailure(f"{path} exists: name another file, or remove it.") from None
    except OSError as error:
        raise RefusedFailure(f"{path} cannot be written ({error.strerror}): name another file.") from error
