"""The table `simulated_drift`: the drift that is switched on in the simulator, whoever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def switch_on(cursor: Cursor, kinds: Sequence[str]) -> None:
    """Let each further run of the simulator drift so, such as `amount-scale=1.5`."""
    cursor.execute(
        "INSERT INTO simulated_drift (kinds) VALUES (%s) ON CONFLICT (only_row)"
        " DO UPDATE SET kinds = excluded.kinds, switched_on_at = now()",
        (list(kinds),),
    )


def switch_off(cursor: Cursor) -> None:
    cursor.execute("DELETE FROM simulated_drift")


def switched_on(cursor: Cursor) -> list[str]:
    """The drift that is switched on; empty if none is."""
    cursor.execute("SELECT kinds FROM simulated_drift")
    row = cursor.fetchone()
    return list(row[0]) if row else []
