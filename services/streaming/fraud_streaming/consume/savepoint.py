"""Stores a batch in one statement; only if the database refuses it are the rows stored one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

ResultT = TypeVar("ResultT")
# The errors that the content of a row can cause; any other error is not the fault of a row.
ROW_ERRORS = (psycopg2.DataError, psycopg2.IntegrityError)


def store_rows(
    cur: Cursor, rows: Sequence[int], store: Callable[[Sequence[int]], ResultT]
) -> tuple[list[tuple[Sequence[int], ResultT]], list[tuple[int, str]]]:
    """Store all rows at once or, if the database refuses one of them, one by one.

    Returns:
        The groups of stored rows with their results, and the refused rows with the reason.
    """
    try:
        with _savepoint(cur):
            return [(rows, store(rows))], []
    except ROW_ERRORS:
        pass
    stored: list[tuple[Sequence[int], ResultT]] = []
    refused: list[tuple[int, str]] = []
    for row in rows:
        try:
            with _savepoint(cur):
                stored.append(([row], store([row])))
        except ROW_ERRORS as error:
            # Only the constraint is named: the server's detail line repeats the row, which may be card data.
            name = error.diag.constraint_name or error.diag.column_name or ""
            refused.append((row, f"The database refuses the record: {type(error).__name__} {name}".strip()))
    return stored, refused


@contextmanager
def _savepoint(cur: Cursor) -> Iterator[None]:
    cur.execute("SAVEPOINT rows")
    try:
        yield
    except ROW_ERRORS:
        cur.execute("ROLLBACK TO SAVEPOINT rows")
        raise
    cur.execute("RELEASE SAVEPOINT rows")
