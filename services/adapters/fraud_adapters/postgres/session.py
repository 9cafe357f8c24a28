"""One database connection, reopened when it was lost."""

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

# Whoever asks waits for the database, but not for ever: a lock or a stalled disk becomes a failure.
STATEMENT_MILLISECONDS: Final = 10_000
ATTEMPTS: Final = 3  # of a transaction that lost a deadlock: whoever won it is done in a moment


class _GaveWay(DatabaseUnavailable):
    """The server rolled the transaction back in favour of another one."""


class Session:
    """Runs one transaction after the other on a connection of its own; threads take turns."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._name = application_name
        self._connection: Any = None
        self._lock = Lock()

    def run(self, work: Callable[[Cursor], T]) -> T:
        """Run `work(cursor)` as one transaction. It may run more than once, so it must be idempotent.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or was lost and lost again, or it gave way
                to others in every one of a few attempts.
        """
        with self._lock:
            for _ in range(ATTEMPTS - 1):
                with suppress(_GaveWay):
                    return self._run(work)
            return self._run(work)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _run(self, work: Callable[[Cursor], T]) -> T:
        reused = self._connection is not None
        try:
            return self._attempt(work)
        except _GaveWay:
            raise
        except DatabaseUnavailable:
            if not reused:
                raise
        # The connection had been idle; the server may simply have been restarted meanwhile.
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
            gave_way = isinstance(error, TransactionRollbackError)
            if gave_way:
                get_logger(__name__).warning("transaction_gave_way", reason=type(error).__name__)
            self._drop()
            kind = _GaveWay if gave_way else DatabaseUnavailable
            raise kind(f"The database does not answer: {' '.join(str(error).split())}") from None
        except BaseException:
            if self._connection is not None:
                self._connection.rollback()
            raise
        return result

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
