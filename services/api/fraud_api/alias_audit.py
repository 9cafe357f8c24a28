"""Audits aliases that somebody moved in MLflow itself; whoever else moves one adds an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from config.constants import ALIAS_CHALLENGER, ALIAS_PREVIOUS, ALIAS_SHADOW
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.postgres import DatabaseUnavailable, audit
from fraud_adapters.postgres.session import Cursor, Session

# The champion's moves are audited when its version is taken up, with its digest.
WATCHED: Final = (ALIAS_CHALLENGER, ALIAS_PREVIOUS, ALIAS_SHADOW)


class AliasSource(Protocol):
    """The registry, as far as aliases are read; it raises `RegistryFailure`."""

    def aliases(self, name: str) -> dict[str, str]: ...


class AliasAudit:
    """Compares the aliases of a model with what was audited, each time that they have moved."""

    def __init__(self, name: str, source: AliasSource, session: Session) -> None:
        self._name = name
        self._source = source
        self._session = session
        self._known: dict[str, str] = {}
        self._problem: str | None = None

    def record(self, aliases: Mapping[str, str]) -> None:
        """Add an entry for each alias that was moved by hand; without database or registry, next time."""
        if _watched(aliases) == self._known:
            return
        try:
            self._known, by_hand = self._session.run(self._append)
        except (RegistryFailure, DatabaseUnavailable) as error:
            if self._problem != str(error):
                get_logger(__name__).warning("alias_audit_postponed", detail=str(error))
            self._problem = str(error)
            return
        self._problem = None
        for alias in by_hand:
            get_logger(__name__).warning("alias_moved_by_hand", alias=alias, version=self._known[alias])

    def _append(self, cursor: Cursor) -> tuple[dict[str, str], list[str]]:
        """The aliases now, and those of them whose move was not audited yet."""
        # The platform moves an alias under this lock. Without it, a move between the registry's answer and
        # the entry would be audited backwards.
        audit.lock(cursor)
        now = _watched(self._source.aliases(self._name))
        by_hand = [
            alias
            for alias, version in now.items()
            if audit.alias_taken_up(cursor, self._name, alias, version, {})
        ]
        return now, by_hand


def _watched(aliases: Mapping[str, str]) -> dict[str, str]:
    return {alias: aliases[alias] for alias in WATCHED if alias in aliases}
