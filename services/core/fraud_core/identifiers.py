"""Generates identifiers deterministically from unique content."""

from __future__ import annotations

from uuid import UUID, uuid5

# Any fixed UUID would do; it keeps our name-based identifiers apart from everybody else's.
NAMESPACE = UUID("8d4f9a5e-5c8b-5b1e-9a53-0c3f5a6f2b71")


def uuid7(unix_milliseconds: int, random_bytes: bytes) -> str:
    """A time-ordered UUID, version 7 (RFC 9562, section 5.7).

    Args:
        unix_milliseconds: time since 1970, below 2 ** 48.
        random_bytes: ten bytes, of which 74 bits are used.
    """
    if len(random_bytes) != 10 or not 0 <= unix_milliseconds < 2**48:
        raise ValueError("uuid7 needs ten random bytes and a time below 2 ** 48 ms")
    random_bits = int.from_bytes(random_bytes, "big")
    value = unix_milliseconds << 80 | 0x7 << 76 | (random_bits >> 68) << 64 | 0b10 << 62
    return str(UUID(int=value | random_bits & (2**62 - 1)))


def transaction_id(seed: int, run_id: str, index: int) -> str:
    """The id of the `index`-th transaction of a run; a retry of the run generates the same ids (UUIDv5)."""
    return str(uuid5(NAMESPACE, f"transaction/{seed}/{run_id}/{index}"))


def label_id(transaction: str, label: int, source: str, reported_at: str) -> str:
    """The id of a label without one; identical reports get the same id (UUIDv5)."""
    return str(uuid5(NAMESPACE, f"label/{transaction}/{label}/{source}/{reported_at}"))
