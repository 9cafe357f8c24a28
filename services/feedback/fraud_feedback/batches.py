"""Work in database transactions of a bounded size, so that nobody waits long for what they lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812


def until_none_left(connection: Connection, work: Callable[[Any], int], batch: int) -> int:
    """Call `work(cursor)`, which gives how many it did, until that is less than a batch; the sum of all."""
    total = 0
    while True:
        with connection, connection.cursor() as cursor:
            done = work(cursor)
        total += done
        if done < batch:
            return total
