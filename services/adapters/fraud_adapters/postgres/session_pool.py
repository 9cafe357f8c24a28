"""Several database sessions, for callers that work at the same time."""

from __future__ import annotations

from collections.abc import Callable
from queue import LifoQueue
from typing import TypeVar

from fraud_adapters.postgres.session import Cursor, Session

T = TypeVar("T")


class SessionPool:
    """Runs each transaction in a session that is idle; the one used last comes first, so few stay open."""

    def __init__(self, url: str, application_name: str, size: int) -> None:
        self._sessions = [Session(url, application_name) for _ in range(size)]
        self._idle: LifoQueue[Session] = LifoQueue()
        for session in self._sessions:
            self._idle.put(session)

    def run(self, work: Callable[[Cursor], T]) -> T:
        """Run `work(cursor)` as one transaction; see `Session.run`.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or rolled the transaction back.
        """
        session = self._idle.get()
        try:
            return session.run(work)
        finally:
            self._idle.put(session)

    def close(self) -> None:
        for session in self._sessions:
            session.close()
