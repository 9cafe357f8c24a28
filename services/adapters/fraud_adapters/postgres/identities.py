"""The tables `clients`, `signing_keys` and `revoked_tokens`: who may log in, and which tokens are valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the API, and what it may do."""

    client_id: str
    secret_hash: str
    scopes: frozenset[str]
    active: bool


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A stored signing key, whose private key is encrypted; `signs` is false once it is retired."""

    kid: str
    public_key: str
    private_key_encrypted: str
    signs: bool


def lock_identities(cursor: Cursor) -> None:
    """Let only one process at a time change keys and clients, until its transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_api.identities'))")


# --- Clients --------------------------------------------------------------------------------------
def find_client(cursor: Cursor, client_id: str) -> Client | None:
    """The client of that id, including a deactivated one."""
    cursor.execute(
        "SELECT client_id, secret_hash, scopes, active FROM clients WHERE client_id = %s", (client_id,)
    )
    row = cursor.fetchone()
    return Client(row[0], row[1], frozenset(row[2]), row[3]) if row else None


def insert_client(cursor: Cursor, client_id: str, secret_hash: str, scopes: Sequence[str]) -> None:
    """Insert a new, active client."""
    cursor.execute(
        "INSERT INTO clients (client_id, secret_hash, scopes, active) VALUES (%s, %s, %s, true)",
        (client_id, secret_hash, list(scopes)),
    )


def update_client(cursor: Cursor, client_id: str, secret_hash: str, scopes: Sequence[str]) -> None:
    """Change secret and scopes; a deactivated client stays inactive."""
    cursor.execute(
        "UPDATE clients SET secret_hash = %s, scopes = %s, rotated_at = now() WHERE client_id = %s",
        (secret_hash, list(scopes), client_id),
    )


def inactive_clients(cursor: Cursor) -> frozenset[str]:
    """The ids of the clients that were deactivated."""
    cursor.execute("SELECT client_id FROM clients WHERE NOT active")
    return frozenset(client for (client,) in cursor.fetchall())


# --- Signing keys and tokens ----------------------------------------------------------------------
def valid_keys(cursor: Cursor, algorithm: str) -> list[StoredKey]:
    """The keys whose tokens are valid now, the newest first."""
    cursor.execute(
        "SELECT kid, public_key, private_key_encrypted, retired_at IS NULL FROM signing_keys"
        " WHERE algorithm = %s AND (expires_at IS NULL OR expires_at > now()) ORDER BY created_at DESC, kid",
        (algorithm,),
    )
    return [StoredKey(*row) for row in cursor.fetchall()]


def signing_key_exists(cursor: Cursor, algorithm: str) -> bool:
    """Whether there is a signing key that is not retired."""
    cursor.execute("SELECT 1 FROM signing_keys WHERE retired_at IS NULL AND algorithm = %s", (algorithm,))
    return cursor.fetchone() is not None


def insert_key(cursor: Cursor, kid: str, algorithm: str, public_key: str, private_key_encrypted: str) -> None:
    """Insert a new key, which signs from now on."""
    cursor.execute(
        "INSERT INTO signing_keys (kid, algorithm, public_key, private_key_encrypted, created_at)"
        " VALUES (%s, %s, %s, %s, clock_timestamp())",
        (kid, algorithm, public_key, private_key_encrypted),
    )


def retire_keys(cursor: Cursor, still_valid_for: timedelta) -> None:
    """Retire all keys; their tokens stay valid for the given time."""
    cursor.execute(
        "UPDATE signing_keys SET retired_at = now(), expires_at = now() + %s WHERE retired_at IS NULL",
        (still_valid_for,),
    )


def revoked_tokens(cursor: Cursor) -> frozenset[str]:
    """The ids of tokens that were revoked and have not expired."""
    cursor.execute("SELECT jti FROM revoked_tokens WHERE expires_at > now()")
    return frozenset(str(token_id) for (token_id,) in cursor.fetchall())
