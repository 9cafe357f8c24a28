"""Signing keys: kept encrypted in the database, rotated by one command, published as a JWK set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from threading import Lock
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jose import jwk
from jose.backends.base import Key

from fraud_api.credentials import KeyVault
from fraud_api.session import Cursor
from fraud_api.tokens import ALGORITHM, SigningKey

# A replica learns of a new key by polling: for so long tokens may still be signed with the old one.
ROTATION_MARGIN: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeyState:
    """What the database said: keys that are valid now, the one that signs, and what is revoked."""

    public: Mapping[str, str]  # kid → PEM
    signing_kid: str
    signing_pem: str
    revoked_tokens: frozenset[str]
    inactive_clients: frozenset[str]


class Keyring:
    """The keys in force in this process (`tokens.Keys`). Replaced as a whole, read without a lock."""

    def __init__(self) -> None:
        self._state: KeyState | None = None
        self._public: dict[str, Key] = {}
        self._signing: SigningKey | None = None
        self._generation = 0
        self._lock = Lock()

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def signing(self) -> SigningKey | None:
        return self._signing

    def verifying(self, kid: str) -> Key | None:
        return self._public.get(kid)

    def is_revoked(self, token_id: str, client_id: str) -> bool:
        state = self._state
        return state is None or token_id in state.revoked_tokens or client_id in state.inactive_clients

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public keys as a JWK set (RFC 7517)."""
        members = []
        for kid, key in sorted(self._public.items()):
            members.append({**key.to_dict(), "kid": kid, "use": "sig"})
        return {"keys": members}

    def replace(self, state: KeyState) -> bool:
        """Take over a new state; True if anything changed."""
        with self._lock:
            if state == self._state:
                return False
            self._public = {kid: jwk.construct(pem, ALGORITHM) for kid, pem in state.public.items()}
            self._signing = SigningKey(state.signing_kid, jwk.construct(state.signing_pem, ALGORITHM))
            self._state = state
            self._generation += 1
            return True


def load(cursor: Cursor, vault: KeyVault) -> KeyState | None:
    """The keys of the database; None while there is no key that signs.

    Raises:
        KeyEncryptionError: the signing key was stored under another secret.
    """
    cursor.execute(
        "SELECT kid, public_key, private_key_encrypted, retired_at IS NULL FROM signing_keys"
        " WHERE algorithm = %s AND (expires_at IS NULL OR expires_at > now()) ORDER BY created_at DESC, kid",
        (ALGORITHM,),
    )
    rows = cursor.fetchall()
    signing = next(((kid, sealed) for kid, _, sealed, active in rows if active), None)
    if signing is None:
        return None
    cursor.execute("SELECT jti FROM revoked_tokens WHERE expires_at > now()")
    revoked = frozenset(str(jti) for (jti,) in cursor.fetchall())
    cursor.execute("SELECT client_id FROM clients WHERE NOT active")
    inactive = frozenset(client for (client,) in cursor.fetchall())
    public = {kid: pem for kid, pem, _, _ in rows}
    return KeyState(public, signing[0], vault.unlock(signing[1]), revoked, inactive)


def ensure(cursor: Cursor, vault: KeyVault) -> None:
    """Make the first signing key if there is none."""
    lock_identities(cursor)
    cursor.execute("SELECT 1 FROM signing_keys WHERE retired_at IS NULL AND algorithm = %s", (ALGORITHM,))
    if cursor.fetchone() is None:
        _insert(cursor, vault)


def rotate(cursor: Cursor, vault: KeyVault, token_lifetime: timedelta) -> str:
    """Make a new signing key and return its id; older ones verify until their last tokens have expired."""
    lock_identities(cursor)
    cursor.execute(
        "UPDATE signing_keys SET retired_at = now(), expires_at = now() + %s WHERE retired_at IS NULL",
        (token_lifetime + ROTATION_MARGIN,),
    )
    return _insert(cursor, vault)


def _insert(cursor: Cursor, vault: KeyVault) -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    kid = sha256(public.encode()).hexdigest()[:16]
    cursor.execute(
        "INSERT INTO signing_keys (kid, algorithm, public_key, private_key_encrypted, created_at)"
        " VALUES (%s, %s, %s, %s, clock_timestamp())",
        (kid, ALGORITHM, public, vault.lock(pem)),
    )
    audit(cursor, "signing_key_created", kid, {"algorithm": ALGORITHM})
    return kid


def lock_identities(cursor: Cursor) -> None:
    """Keys and clients are changed by one process at a time, until its transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_api.identities'))")


def audit(cursor: Cursor, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Append to the audit chain, as the API itself."""
    cursor.execute(
        "SELECT audit_append(%s, %s, %s, %s::jsonb)", ("fraud_api", action, subject, json.dumps(details))
    )
