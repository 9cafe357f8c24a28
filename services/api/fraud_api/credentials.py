"""Stored secrets: clients' secrets are hashed, private keys are encrypted."""

from __future__ import annotations

import base64
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# OWASP's smallest argon2id parameters (25 ms): secrets are long and random, and jobs log in often.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# The hash of a random text with the same parameters, so that checking an unknown client takes equally long.
_DUMMY_HASH: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$YOVoVLda6qxOMc77PywtoA$NKUBh+MjM0mWD5tGRz1ChKCFG249+46s3QCX+r8/Wls"
)


class KeyEncryptionError(Exception):
    """A private key cannot be decrypted: API_KEY_ENCRYPTION_SECRET is not the one it was stored with."""


def hash_secret(secret: str) -> str:
    """An argon2id hash, with its parameters and salt."""
    return _HASHER.hash(secret)


def secret_matches(secret_hash: str | None, secret: str) -> bool:
    """Whether the secret matches the hash; without a hash, False after the same amount of work."""
    try:
        matches = _HASHER.verify(secret_hash or _DUMMY_HASH, secret)
    except (VerificationError, InvalidHashError):
        return False
    return matches and secret_hash is not None


class KeyVault:
    """Encrypts private keys under a key derived from API_KEY_ENCRYPTION_SECRET."""

    def __init__(self, secret: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"fraud-api signing keys").derive(secret.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def lock(self, pem: str) -> str:
        return self._fernet.encrypt(pem.encode()).decode()

    def unlock(self, sealed: str) -> str:
        """The private key in PEM.

        Raises:
            KeyEncryptionError: it was encrypted under another secret.
        """
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise KeyEncryptionError(
                "A signing key cannot be decrypted: set API_KEY_ENCRYPTION_SECRET to the secret"
                " it was stored with."
            ) from None
