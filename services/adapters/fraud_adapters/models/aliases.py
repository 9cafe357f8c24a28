"""Aliases of model versions, which select the model that decides; each change is audited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from fraud_adapters.postgres import audit

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

ALIAS_SET: Final = "model_alias_set"  # the action in the audit log


class AliasWriter(Protocol):
    """The registry, as far as aliases are written; see `registry_writer`."""

    def set_alias(self, name: str, alias: str, version: str) -> None: ...


def set_alias(  # noqa: PLR0917
    connection: Connection,
    registry: AliasWriter,
    actor: str,
    name: str,
    alias: str,
    version: str,
    details: Mapping[str, Any],
) -> None:
    """Let `alias` of the model `name` point to a version, and audit the change.

    The entry is stored only if the alias was set, and no alias is set without an entry.

    Args:
        connection: outside a transaction.
        details: further content of the entry, besides the version.

    Raises:
        RegistryUnavailable: the alias was not set, and nothing is recorded.
    """
    with connection, connection.cursor() as cursor:
        audit.append(cursor, actor, ALIAS_SET, f"{name}@{alias}", {"version": version, **details})
        registry.set_alias(name, alias, version)
