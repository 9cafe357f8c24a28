"""The clients of the environment, made or changed in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fraud_adapters.postgres import audit, identities
from fraud_adapters.postgres.session import Cursor
from fraud_api.credentials import hash_secret, secret_matches
from fraud_api.keys import AUDIT_ACTOR


@dataclass(frozen=True, slots=True)
class Seeded:
    """Client ids by what happened to them."""

    created: list[str]
    rotated: list[str]
    unchanged: list[str]


def seed(
    cursor: Cursor,
    secrets: Mapping[str, str],
    scopes: Mapping[str, Sequence[str]],
    default_scopes: Sequence[str],
) -> Seeded:
    """Make clients of `client id → secret`; a known one gets the secret and scopes given, if they differ.

    Clients that are not named are left alone; one that was deactivated stays so.
    """
    identities.lock_identities(cursor)
    outcome = Seeded([], [], [])
    for client_id, secret in secrets.items():
        wanted = sorted(set(scopes.get(client_id, default_scopes)))
        known = identities.find_client(cursor, client_id)
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
    identities.insert_client(cursor, client_id, hash_secret(secret), scopes)
    audit.append(cursor, AUDIT_ACTOR, "client_created", client_id, {"scopes": scopes})


def _update(cursor: Cursor, client_id: str, secret: str, scopes: list[str]) -> None:
    identities.update_client(cursor, client_id, hash_secret(secret), scopes)
    audit.append(cursor, AUDIT_ACTOR, "client_rotated", client_id, {"scopes": scopes})
