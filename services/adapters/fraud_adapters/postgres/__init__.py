"""Connections to Postgres."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import parse_dsn

from fraud_adapters.job.failures import PassingFailure

CONNECT_TIMEOUT_SECONDS: Final = 10
# If the server's machine or network is lost, the connection stays open: with the system's defaults a waiting
# client would detect that after two hours.
_CONNECTION_CHECKS: Final = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}

T = TypeVar("T")


class DatabaseUnavailable(PassingFailure):
    """Postgres cannot be reached or refuses the log-in; one sentence, without the password."""


class DatabaseLoginRefused(DatabaseUnavailable):
    """Postgres answers, and does not accept the role, its password, or the database's name."""


def connect(url: str, application_name: str, *, idle_in_transaction_s: float = 0.0) -> Connection:
    """Open a connection whose time zone is UTC.

    Args:
        url: libpq URL, with its password.
        application_name: what the server's activity view shows.
        idle_in_transaction_s: the server ends the session, which releases its locks, after a transaction has
            been idle for this time; 0 for never.

    Raises:
        DatabaseUnavailable: the server does not answer, or the URL is invalid.
        DatabaseLoginRefused: the log-in is refused.
    """
    try:
        _check_encoded(url)
        return psycopg2.connect(
            url,
            application_name=application_name,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            **_CONNECTION_CHECKS,
            client_encoding="UTF8",
            options="-c timezone=UTC -c datestyle=ISO"
            f" -c idle_in_transaction_session_timeout={round(idle_in_transaction_s * 1000)}",
        )
    except psycopg2.OperationalError as error:
        kind = DatabaseLoginRefused if _is_refusal(error) else DatabaseUnavailable
        raise kind(f"Postgres is not available: {_one_line(error)}.") from None
    except psycopg2.ProgrammingError:
        # libpq's own message quotes the URL, and with it the password.
        raise DatabaseUnavailable(
            "The database URL cannot be read: it must look like "
            "postgresql://user:password@host:5432/database, special characters percent-encoded."
        ) from None


def interruptible(connection: Connection, work: Callable[[], T]) -> T:
    """Run `work`, which waits for a statement on `connection`; a signal cancels the statement at once.

    Otherwise libpq blocks, and Python handles the signal only after the statement has ended.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(work)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                connection.cancel()
            raise


def _check_encoded(url: str) -> None:
    """Refuse a URL whose password is not percent-encoded.

    Part of the password would be parsed as host or port, which libpq quotes in its error message.

    Raises:
        psycopg2.ProgrammingError: the host or the port is malformed.
    """
    parts = parse_dsn(url)
    if "@" in parts.get("host", "") or not set(parts.get("port", "")) <= set("0123456789,"):
        raise psycopg2.ProgrammingError


def _is_refusal(error: psycopg2.OperationalError) -> bool:
    # A failed connection has no SQLSTATE, and the server writes in its own language: ours sets C.
    text = str(error)
    return "authentication failed" in text or ("FATAL:" in text and "does not exist" in text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
