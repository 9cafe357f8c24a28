"""Aliases of model versions, which select the model that decides; each change is audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from config.constants import ALIAS_CHAMPION, ALIAS_PREVIOUS
from fraud_adapters.job.failures import PassingFailure, RefusedFailure
from fraud_adapters.postgres import audit

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

    from fraud_adapters.postgres.session import Cursor, Session

ALIAS_SET: Final = "model_alias_set"  # the action in the audit log


class AliasWriter(Protocol):
    """The registry, as far as aliases are written; see `registry`. It raises `RegistryUnavailable`."""

    def set_alias(self, name: str, alias: str, version: str) -> None: ...


class AliasRegistry(AliasWriter, Protocol):
    """The registry, as far as aliases are read and written; both methods raise `RegistryUnavailable`."""

    def version_of_alias(self, name: str, alias: str) -> str | None: ...


class NothingToRollBackTo(RefusedFailure):
    """The model has no previous version, or it must not serve; one sentence says why."""


class AliasMoved(PassingFailure):
    """Another process moved an alias meanwhile."""


@dataclass(frozen=True, slots=True)
class ChampionMove:
    """The champion now and before; `changed` is False if it was that version already."""

    version: str
    before: str | None
    changed: bool


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


def roll_back(
    session: Session, registry: AliasRegistry, actor: str, name: str, check: Callable[[str], None]
) -> ChampionMove:
    """Make the version that `previous` names champion again; a repetition changes nothing.

    `previous` stays where it is: what was withdrawn does not come back by a second call.

    Args:
        actor: who asked for it, for the audit log.
        check: raises if a version must not serve.

    Raises:
        NothingToRollBackTo: there is no previous version.
        AliasMoved: an alias was moved between the check and the change.
        RegistryUnavailable, DatabaseUnavailable: nothing was changed.
    """
    champion, previous = (
        registry.version_of_alias(name, alias) for alias in (ALIAS_CHAMPION, ALIAS_PREVIOUS)
    )
    if previous is None:
        raise NothingToRollBackTo(
            f"{name} has no version with the alias {ALIAS_PREVIOUS}: there is nothing to roll back to."
        )
    if champion == previous:
        return ChampionMove(previous, champion, changed=False)
    check(previous)
    _move_champion(session, registry, actor, name, previous, champion, {"reason": "rollback"}, keep=False)
    return ChampionMove(previous, champion, changed=True)


def promote(  # noqa: PLR0917
    session: Session,
    registry: AliasRegistry,
    actor: str,
    name: str,
    version: str,
    details: Mapping[str, Any],
) -> ChampionMove:
    """Make a version champion, and what was champion `previous`; a repetition changes nothing.

    Args:
        details: further content of the entries in the audit log.

    Raises:
        AliasMoved: an alias was moved meanwhile.
        RegistryUnavailable, DatabaseUnavailable: the champion is what it was.
    """
    champion = registry.version_of_alias(name, ALIAS_CHAMPION)
    if champion == version:
        return ChampionMove(version, champion, changed=False)
    _move_champion(session, registry, actor, name, version, champion, details, keep=True)
    return ChampionMove(version, champion, changed=True)


def _move_champion(  # noqa: PLR0917
    session: Session,
    registry: AliasRegistry,
    actor: str,
    name: str,
    version: str,
    champion: str | None,
    details: Mapping[str, Any],
    *,
    keep: bool,
) -> None:
    """Let the champion's alias point to a version, and audit it.

    Args:
        champion: the champion as the caller has read it.
        keep: whether it becomes `previous`, the version to which one can roll back. Otherwise `previous`
            must be the version itself.

    Raises:
        AliasMoved: an alias was moved since the caller has read it.
        RegistryUnavailable, DatabaseUnavailable: the champion is what it was.
    """

    def move(cursor: Cursor) -> None:
        # The entry's lock lasts until the commit, so the aliases are compared after it was taken.
        entry = {"version": version, "champion_before": champion, **details}
        audit.append(cursor, actor, ALIAS_SET, f"{name}@{ALIAS_CHAMPION}", entry)
        # A repetition after a lost connection finds the version there already.
        moved = registry.version_of_alias(name, ALIAS_CHAMPION) not in {champion, version}
        if moved or not (keep or registry.version_of_alias(name, ALIAS_PREVIOUS) == version):
            raise AliasMoved(f"The aliases of {name} were moved meanwhile: try again.")
        if keep and champion is not None:
            audit.append(
                cursor, actor, ALIAS_SET, f"{name}@{ALIAS_PREVIOUS}", {"version": champion, **details}
            )
            registry.set_alias(name, ALIAS_PREVIOUS, champion)
        registry.set_alias(name, ALIAS_CHAMPION, version)

    session.run(move)
