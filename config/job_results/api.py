"""The results of the verbs of `fraud_api`."""

from __future__ import annotations

from typing import Literal, TypedDict


class RotateKeysResult(TypedDict):
    """`rotate-keys`."""

    status: Literal["done"]
    kid: str  # of the new key


class SeedClientsResult(TypedDict):
    """`seed-clients`: the clients in the environment, by outcome."""

    status: Literal["done"]
    created: list[str]
    rotated: list[str]
    unchanged: list[str]
