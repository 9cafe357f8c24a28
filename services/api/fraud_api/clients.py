"""Creates and updates the clients named in the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fraud_adapters.postgres import audit, identities
from fraud_adapters.postgres.session import Cursor
from fraud_api.credentials import hash_secret, secret_matches
from fraud_api.keys import AUDIT_ACTOR


@dataclass(frozen=True, slots=True)
class Seeded:
    """The ids of the clients that were created, updated and left unchanged."""

    created: list[str]
    rotated: list[str]
    unchanged: list[str]


def seed(
    cursor: Cursor,
    secrets: Mapping[str, str],
    scopes: Mapping[str, Sequence[str]],
    default_scopes: Sequence[str],
) -> Seeded:
    """Create the clients of `client id → secret`; update the secret and scopes of existing ones if they
    differ.

    Other clients are not changed, and a deactivated client stays deactivated.
    """
    identities.lock_identities(cursor)
    outcome = Seeded([], [], [])
    for client_id, secret in secrets.items():
        granted_scopes = sorted(set(scopes.get(client_id, default_scopes)))
        client = identities.find_client(cursor, client_id)
        if client is None:
            _insert(cursor, client_id, secret, granted_scopes)
            outcome.created.append(client_id)
        elif client.scopes == set(granted_scopes) and secret_matches(client.secret_hash, secret):
            outcome.unchanged.append(client_id)
        else:
            _update(cursor, client_id, secret, granted_scopes)
            outcome.rotated.append(client_id)
    return outcome


def _insert(cursor: Cursor, client_id: str, secret: str, scopes: list[str]) -> None:
    identities.insert_client(cursor, client_id, hash_secret(secret), scopes)
    audit.append(cursor, AUDIT_ACTOR, "client_created", client_id, {"scopes": scopes})


def _update(cursor: Cursor, client_id: str, secret: str, scopes: list[str]) -> None:
    identities.update_client(cursor, client_id, hash_secret(secret), scopes)
    audit.append(cursor, AUDIT_ACTOR, "client_rotated", client_id, {"scopes": scopes})
