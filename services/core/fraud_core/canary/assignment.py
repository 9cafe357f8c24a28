"""Assigns transactions to a canary: by a salted hash, so that a card stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BYTES: Final = 8
_RANGE: Final = float(1 << (8 * _BYTES))


def positions(keys: Sequence[str], salt: str) -> NDArray[np.float64]:
    """A position in [0, 1) for each key, uniform over keys and independent between salts. n keys → [n].

    Args:
        salt: of the release, so that no card is always among the first to meet a new model.
    """
    prefix = blake2b(salt.encode(), digest_size=32).digest()
    digests = [blake2b(prefix + key.encode(), digest_size=_BYTES).digest() for key in keys]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.float64) / _RANGE


def in_canary(keys: Sequence[str], salt: str, share: float) -> NDArray[np.bool_]:
    """Which keys a canary serves at this share of traffic; a larger share only adds keys. n keys → [n]."""
    return np.asarray(positions(keys, salt) < share)
