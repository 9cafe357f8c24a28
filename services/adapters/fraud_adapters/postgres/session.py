"""A database session that reconnects after a lost connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Final, TypeVar

import psycopg2
from psycopg2.extensions import TransactionRollbackError

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable, connect

T = TypeVar("T")
Cursor = Any

# Bounds the wait for a lock or a stalled disk, so that a caller gets an error instead of hanging.
STATEMENT_MILLISECONDS: Final = 10_000
ATTEMPTS: Final = 3  # of a transaction that was rolled back because of a deadlock


class _RolledBack(DatabaseUnavailable):
    """The server rolled the transaction back, because of a deadlock or a conflict with another one."""


class Session:
    """Runs transactions on its own connection, one at a time; safe to use from several threads."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._name = application_name
        self._connection: Any = None
        self._lock = Lock()

    def run(self, work: Callable[[Cursor], T]) -> T:
        """Run `work(cursor)` as one transaction. It may run more than once, so it must be idempotent.

        Raises:
            DatabaseUnavailable: the database cannot be reached, the connection was lost twice, or the server
                rolled the transaction back in every attempt.
        """
        with self._lock:
            for _ in range(ATTEMPTS - 1):
                with suppress(_RolledBack):
                    return self._run(work)
            return self._run(work)

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _run(self, work: Callable[[Cursor], T]) -> T:
        reused = self._connection is not None
        try:
            return self._attempt(work)
        except _RolledBack:
            raise
        except DatabaseUnavailable:
            if not reused:
                raise
        # The idle connection may be stale because the server was restarted, so we retry once.
        return self._attempt(work)

    def _attempt(self, work: Callable[[Cursor], T]) -> T:
        try:
            if self._connection is None:
                self._connection = connect(self._url, self._name)
                with self._connection.cursor() as cursor:
                    cursor.execute("SET statement_timeout = %s", (STATEMENT_MILLISECONDS,))
                self._connection.commit()
            with self._connection.cursor() as cursor:
                result = work(cursor)
            self._connection.commit()
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            rolled_back = isinstance(error, TransactionRollbackError)
            if rolled_back:
                get_logger(__name__).warning("transaction_gave_way", reason=type(error).__name__)
            self._disconnect()
            kind = _RolledBack if rolled_back else DatabaseUnavailable
            raise kind(f"The database does not answer: {' '.join(str(error).split())}") from None
        except BaseException:
            if self._connection is not None:
                self._connection.rollback()
            raise
        return result

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
