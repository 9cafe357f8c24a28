"""Runs statements that SQLAlchemy Core composes, on the connections of psycopg2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from sqlalchemy import Select

_DIALECT: Final = PGDialect_psycopg2()  # type: ignore[no-untyped-call]


def fetch(cursor: Cursor, statement: Select[Any]) -> Sequence[tuple[Any, ...]]:
    """All rows of a query."""
    compiled = statement.compile(dialect=_DIALECT)
    cursor.execute(str(compiled), compiled.params)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
