"""Signing keys: stored encrypted in the database, rotated by a command, published as a JWK set."""

from __future__ import annotations

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

from fraud_adapters.postgres import audit, identities
from fraud_adapters.postgres.session import Cursor
from fraud_api.credentials import KeyVault
from fraud_api.tokens import ALGORITHM, SigningKey

AUDIT_ACTOR: Final = "fraud_api"  # the API itself, not one of its clients
# A replica learns of a new key by polling; until then it signs tokens with the old one.
ROTATION_MARGIN: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeyState:
    """The state in the database: the valid keys, the signing key, and revocations."""

    public: Mapping[str, str]  # kid → PEM
    signing_kid: str
    signing_pem: str
    revoked_tokens: frozenset[str]
    inactive_clients: frozenset[str]


class Keyring:
    """The keys in force in this process (implements `tokens.Keys`). Replaced as a whole, read without a
    lock."""

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
        """Replace the state; return whether anything changed."""
        with self._lock:
            if state == self._state:
                return False
            self._public = {kid: jwk.construct(pem, ALGORITHM) for kid, pem in state.public.items()}
            self._signing = SigningKey(state.signing_kid, jwk.construct(state.signing_pem, ALGORITHM))
            self._state = state
            self._generation += 1
            return True


def load(cursor: Cursor, vault: KeyVault) -> KeyState | None:
    """Load the keys from the database; None if there is no signing key.

    Raises:
        KeyEncryptionError: the signing key was encrypted with another secret.
    """
    stored = identities.valid_keys(cursor, ALGORITHM)
    signing = next((key for key in stored if key.signs), None)
    if signing is None:
        return None
    return KeyState(
        public={key.kid: key.public_key for key in stored},
        signing_kid=signing.kid,
        signing_pem=vault.unlock(signing.private_key_encrypted),
        revoked_tokens=identities.revoked_tokens(cursor),
        inactive_clients=identities.inactive_clients(cursor),
    )


def ensure(cursor: Cursor, vault: KeyVault) -> None:
    """Create the first signing key if there is none."""
    identities.lock_identities(cursor)
    if not identities.signing_key_exists(cursor, ALGORITHM):
        _insert(cursor, vault)


def rotate(cursor: Cursor, vault: KeyVault, token_lifetime: timedelta) -> str:
    """Create a new signing key and return its id; older keys verify until their last tokens have expired."""
    identities.lock_identities(cursor)
    identities.retire_keys(cursor, token_lifetime + ROTATION_MARGIN)
    return _insert(cursor, vault)


def _insert(cursor: Cursor, vault: KeyVault) -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    kid = sha256(public.encode()).hexdigest()[:16]
    identities.insert_key(cursor, kid, ALGORITHM, public, vault.lock(pem))
    audit.append(cursor, AUDIT_ACTOR, "signing_key_created", kid, {"algorithm": ALGORITHM})
    return kid
