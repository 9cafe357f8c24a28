"""The tables `people` and `sessions`: who may log in to the web app, and who is logged in.

A session is known by a random token in a cookie, of which only the SHA-256 is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from fraud_core.people import LockoutRules, PersonRole

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Account:
    """A person, with what checks a log-in."""

    username: str
    display_name: str
    password_hash: str
    role: PersonRole
    active: bool
    time_zone: str | None
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The person of a session."""

    username: str
    display_name: str
    role: PersonRole
    time_zone: str | None
    csrf_token: str


@dataclass(frozen=True, slots=True)
class Member:
    """A person in a list."""

    username: str
    display_name: str
    role: PersonRole
    active: bool
    locked_until: datetime | None
    sessions: int


_ACCOUNT: Final = (
    "SELECT username, display_name, password_hash, role, active, time_zone, locked_until FROM people"
)


# --- People ---------------------------------------------------------------------------------------
def find_account(cursor: Cursor, username: str) -> Account | None:
    """The account of that name, whether it is active or not."""
    cursor.execute(f"{_ACCOUNT} WHERE username = %s", (username,))
    row = cursor.fetchone()
    if row is None:
        return None
    return Account(row[0], row[1], row[2], PersonRole(row[3]), row[4], row[5], row[6])


def add_person(
    cursor: Cursor, username: str, display_name: str, password_hash: str, role: PersonRole
) -> bool:
    """Add an active person; False if the name is taken."""
    cursor.execute(
        "INSERT INTO people (username, display_name, password_hash, role) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (username, display_name, password_hash, role),
    )
    return bool(cursor.rowcount)


def add_first_person(cursor: Cursor, username: str, password_hash: str) -> bool:
    """Add an administrator where there is nobody yet; False if there is somebody."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_audit.people'))")
    cursor.execute(
        "INSERT INTO people (username, display_name, password_hash, role)"
        " SELECT %s, 'Administrator', %s, 'admin' WHERE NOT EXISTS (SELECT FROM people)",
        (username, password_hash),
    )
    return bool(cursor.rowcount)


def list_people(cursor: Cursor) -> list[Member]:
    """Everybody by name, with the number of their sessions."""
    cursor.execute(
        "SELECT p.username, p.display_name, p.role, p.active, p.locked_until,"
        " (SELECT count(*) FROM sessions s WHERE s.username = p.username AND s.expires_at > now())"
        " FROM people p ORDER BY p.username"
    )
    return [Member(row[0], row[1], PersonRole(row[2]), *row[3:]) for row in cursor.fetchall()]


def active_people(cursor: Cursor) -> list[tuple[str, str]]:
    """Username and name of everybody who may log in."""
    cursor.execute("SELECT username, display_name FROM people WHERE active ORDER BY display_name")
    return [(username, name) for username, name in cursor.fetchall()]


def set_password(cursor: Cursor, username: str, password_hash: str) -> bool:
    """Change a password, unlock the account and end all its sessions; False if there is no such person."""
    cursor.execute(
        "UPDATE people SET password_hash = %s, password_changed_at = now(), failed_logins = 0,"
        " locked_until = NULL WHERE username = %s",
        (password_hash, username),
    )
    return bool(cursor.rowcount) and _end_sessions(cursor, username)


def set_active(cursor: Cursor, username: str, *, active: bool) -> bool:
    """Let a person log in, or not any more; False if there is no such person.

    Either way the sessions end, and a lockout is lifted.
    """
    cursor.execute(
        "UPDATE people SET active = %s, failed_logins = 0, locked_until = NULL WHERE username = %s",
        (active, username),
    )
    return bool(cursor.rowcount) and _end_sessions(cursor, username)


def set_role(cursor: Cursor, username: str, role: PersonRole) -> bool:
    """Change a role, from the next request on; False if there is no such person."""
    cursor.execute("UPDATE people SET role = %s WHERE username = %s", (role, username))
    return bool(cursor.rowcount)


def set_time_zone(cursor: Cursor, username: str, time_zone: str) -> None:
    cursor.execute("UPDATE people SET time_zone = %s WHERE username = %s", (time_zone, username))


def record_failure(cursor: Cursor, username: str, rules: LockoutRules) -> timedelta | None:
    """Count a wrong password, and lock the account if it was one too many; for how long it is locked."""
    cursor.execute(
        "UPDATE people SET failed_logins = least(failed_logins + 1, 30000) WHERE username = %s"
        " RETURNING failed_logins",
        (username,),
    )
    row = cursor.fetchone()
    locked = rules.locked_for(row[0]) if row else None
    if locked is not None:
        cursor.execute("UPDATE people SET locked_until = now() + %s WHERE username = %s", (locked, username))
    return locked


# --- Sessions -------------------------------------------------------------------------------------
def open_session(
    cursor: Cursor, username: str, session_hash: bytes, csrf_token: str, lifetime: timedelta
) -> None:
    """Open a session, forget wrong passwords, and remove sessions that have expired."""
    cursor.execute("DELETE FROM sessions WHERE expires_at <= now()")
    cursor.execute(
        "UPDATE people SET failed_logins = 0, locked_until = NULL WHERE username = %s", (username,)
    )
    cursor.execute(
        "INSERT INTO sessions (session_hash, username, csrf_token, expires_at)"
        " VALUES (%s, %s, %s, now() + %s)",
        (session_hash, username, csrf_token, lifetime),
    )


def find_session(cursor: Cursor, session_hash: bytes, idle: timedelta) -> SignedIn | None:
    """The person of a session that has neither expired nor been idle for too long."""
    cursor.execute(
        "SELECT p.username, p.display_name, p.role, p.time_zone, s.csrf_token,"
        " s.last_seen_at < now() - interval '1 minute'"
        " FROM sessions s JOIN people p ON p.username = s.username"
        " WHERE s.session_hash = %s AND p.active AND s.expires_at > now() AND s.last_seen_at > now() - %s",
        (session_hash, idle),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    if row[5]:
        cursor.execute("UPDATE sessions SET last_seen_at = now() WHERE session_hash = %s", (session_hash,))
    return SignedIn(row[0], row[1], PersonRole(row[2]), row[3], row[4])


def close_session(cursor: Cursor, session_hash: bytes) -> None:
    cursor.execute("DELETE FROM sessions WHERE session_hash = %s", (session_hash,))


def _end_sessions(cursor: Cursor, username: str) -> bool:
    cursor.execute("DELETE FROM sessions WHERE username = %s", (username,))
    return True
