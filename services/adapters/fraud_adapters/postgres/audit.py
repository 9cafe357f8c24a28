"""The append-only audit log: each entry is chained to the previous one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def append(cursor: Cursor, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Append an entry in the current transaction: it is stored only if the audited change is committed."""
    cursor.execute(
        "SELECT audit_append(%s, %s, %s, %s::jsonb)", (actor, action, subject, json.dumps(details))
    )
