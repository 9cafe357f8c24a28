"""The append-only audit log: each entry is chained to the previous one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

_LOCK: Final = 7234019850113  # which `audit_append` takes


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One entry about an alias: when it was set, by whom, to which version."""

    recorded_at: datetime
    actor: str
    alias: str
    version: str
    details: Mapping[str, Any]


def append(cursor: Cursor, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Append an entry in the current transaction: it is stored only if the audited change is committed."""
    cursor.execute(
        "SELECT audit_append(%s, %s, %s, %s::jsonb)", (actor, action, subject, json.dumps(details))
    )


def lock(cursor: Cursor) -> None:
    """Wait until nobody appends, and let nobody else append until the transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def alias_taken_up(cursor: Cursor, name: str, alias: str, version: str, details: Mapping[str, Any]) -> bool:
    """Audit that a service follows an alias to a version, unless its move there is audited already.

    Returns:
        Whether an entry was appended: the alias was moved in MLflow itself.
    """
    cursor.execute(
        "SELECT audit_alias_taken_up(%s, %s, %s, %s::jsonb)", (name, alias, version, json.dumps(details))
    )
    row = cursor.fetchone()
    return bool(row and row[0])


def alias_history(cursor: Cursor, name: str, limit: int, version: str | None = None) -> list[AliasChange]:
    """The latest changes of the aliases of a model, the newest first; if given, only those to one version."""
    cursor.execute(
        "SELECT recorded_at, actor, alias, version, details FROM model_alias_history"
        " WHERE name = %(name)s AND (%(version)s::text IS NULL OR version = %(version)s)"
        " ORDER BY entry_id DESC LIMIT %(limit)s",
        {"name": name, "version": version, "limit": limit},
    )
    return [AliasChange(*row) for row in cursor.fetchall()]
