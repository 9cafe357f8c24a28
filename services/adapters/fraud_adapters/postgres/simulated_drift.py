"""The table `simulated_drift`: which drift was switched on in the simulator, and when, whoever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def switch(cursor: Cursor, kinds: Sequence[str]) -> None:
    """Let each run from now on drift so, such as `amount-scale=1.5`; without kinds not at all."""
    cursor.execute("INSERT INTO simulated_drift (kinds) VALUES (%s::text[])", (list(kinds),))


def switched_on(cursor: Cursor, at: datetime | None = None) -> list[str]:
    """The drift that was switched on at a moment, or is now; empty if none is."""
    cursor.execute(
        "SELECT kinds FROM simulated_drift WHERE switched_at <= coalesce(%s, clock_timestamp())"
        " ORDER BY switched_at DESC LIMIT 1",
        (at,),
    )
    row = cursor.fetchone()
    return list(row[0]) if row else []
