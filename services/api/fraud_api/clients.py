"""The API's clients: who may log in, with which scopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fraud_api.credentials import hash_secret, secret_matches
from fraud_api.keys import audit, lock_identities
from fraud_api.session import Cursor


@dataclass(frozen=True, slots=True)
class Client:
    client_id: str
    secret_hash: str
    scopes: frozenset[str]
    active: bool


@dataclass(frozen=True, slots=True)
class Seeded:
    """Client ids by what happened to them."""

    created: list[str]
    rotated: list[str]
    unchanged: list[str]


def find(cursor: Cursor, client_id: str) -> Client | None:
    cursor.execute(
        "SELECT client_id, secret_hash, scopes, active FROM clients WHERE client_id = %s", (client_id,)
    )
    row = cursor.fetchone()
    return Client(row[0], row[1], frozenset(row[2]), row[3]) if row else None


def seed(
    cursor: Cursor,
    secrets: Mapping[str, str],
    scopes: Mapping[str, Sequence[str]],
    default_scopes: Sequence[str],
) -> Seeded:
    """Make clients of `client id → secret`; a known one gets the secret and scopes given, if they differ.

    Clients that are not named are left alone; one that was deactivated stays so.
    """
    lock_identities(cursor)
    outcome = Seeded([], [], [])
    for client_id, secret in secrets.items():
        wanted = sorted(set(scopes.get(client_id, default_scopes)))
        known = find(cursor, client_id)
        if known is None:
            _insert(cursor, client_id, secret, wanted)
            outcome.created.append(client_id)
        elif known.scopes == set(wanted) and secret_matches(known.secret_hash, secret):
            outcome.unchanged.append(client_id)
        else:
            _update(cursor, client_id, secret, wanted)
            outcome.rotated.append(client_id)
    return outcome


def _insert(cursor: Cursor, client_id: str, secret: str, scopes: list[str]) -> None:
    cursor.execute(
        "INSERT INTO clients (client_id, secret_hash, scopes, active) VALUES (%s, %s, %s, true)",
        (client_id, hash_secret(secret), scopes),
    )
    audit(cursor, "client_created", client_id, {"scopes": scopes})


def _update(cursor: Cursor, client_id: str, secret: str, scopes: list[str]) -> None:
    cursor.execute(
        "UPDATE clients SET secret_hash = %s, scopes = %s, rotated_at = now() WHERE client_id = %s",
        (hash_secret(secret), scopes, client_id),
    )
    audit(cursor, "client_rotated", client_id, {"scopes": scopes})
