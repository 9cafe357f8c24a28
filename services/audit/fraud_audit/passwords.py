"""Passwords of people, hashed with argon2id."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# RFC 9106's second recommendation: people choose passwords, and log in seldom.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)
# The hash of a random text with the same parameters, so that checking an unknown person takes equally long.
_DUMMY_HASH: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$DfeMpEs2KfF3xkFPYjLAwQ$PRe7ioKx/nzkOcTpCXtHnkSWkDD2sxRQNyCd9TB7r4A"
)
# Each check takes 64 MiB: a flood of log-ins waits instead of taking the memory.
_CHECKS: Final = BoundedSemaphore(2)


def hash_password(password: str) -> str:
    """An argon2id hash, with its parameters and salt."""
    with _CHECKS:
        return _HASHER.hash(password)


def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether the password matches the hash; without a hash, False after the same amount of work."""
    try:
        with _CHECKS:
            matches = _HASHER.verify(password_hash or _DUMMY_HASH, password)
    except (VerificationError, InvalidHashError):
        return False
    return matches and password_hash is not None
