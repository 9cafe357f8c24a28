"""Access tokens. This is the only module that uses python-jose.

The library accepts more than it should: a token without `aud` or `exp`, unknown `crit`, `jku` and `jwk`
headers, and characters outside base64; and it raises RecursionError on nested brackets. This module checks
all of that itself, and every failure is an `InvalidToken`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

from jose import jwt
from jose.backends.base import Key

from fraud_core import strict_json

ALGORITHM: Final = "ES256"
ISSUER: Final = "fraud-api"
AUDIENCE: Final = "fraud-api"
TOKEN_TYPE: Final = "access"  # noqa: S105 - the kind of token, not a token
MAX_TOKEN: Final = 4096  # characters
MAX_HEADER: Final = 512  # characters of the header's segment
CLOCK_SKEW: Final = 5  # seconds by which `nbf` may lie in the future, for clock differences between replicas
CACHE_SIZE: Final = 10_000

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{1,512}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_HEADER_NAMES: Final = frozenset({"alg", "kid", "typ"})
# The library checks only the signature, audience, issuer and the presence of claims. Times are checked here,
# against the injected clock, to the second and with strict types.
_OPTIONS: Final = {
    "require_aud": True,
    "require_iss": True,
    "require_sub": True,
    "require_jti": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_at_hash": False,
}


class InvalidToken(Exception):
    """The token is not accepted; the message says why, without the token."""


class UnknownKey(InvalidToken):
    """The token names an unknown key; another replica may just have created it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The client a token was issued to, and its scopes; `expires` in seconds since 1970."""

    client_id: str
    scopes: frozenset[str]
    token_id: str
    expires: int


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A signing key: its id and the private key as an object of python-jose."""

    kid: str
    key: Key


class Keys(Protocol):
    """The keys in force."""

    @property
    def generation(self) -> int:
        """Changes whenever keys or revocations change."""

    def verifying(self, kid: str) -> Key | None:
        """The public key with that id, if it is known and not expired."""

    def is_revoked(self, token_id: str, client_id: str) -> bool:
        """Whether the token, or every token of its client, is revoked."""


def issue(
    key: SigningKey, client_id: str, scopes: frozenset[str], *, now: int, lifetime: int, token_id: str
) -> str:
    """A signed token, valid from `now` for `lifetime` seconds."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": client_id,
        "scope": " ".join(sorted(scopes)),
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": token_id,
        "token_type": TOKEN_TYPE,
    }
    token: str = jwt.encode(claims, key.key, algorithm=ALGORITHM, headers={"kid": key.kid})
    return token


class Verifier:
    """Verifies tokens; accepted tokens are cached by their hash until they expire."""

    def __init__(self, keys: Keys, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock
        self._known: dict[bytes, Identity] = {}
        self._generation = keys.generation

    def verify(self, token: str) -> Identity:
        """The identity of a token.

        Raises:
            UnknownKey: it is signed with an unknown key.
            InvalidToken: it is malformed, forged, expired, revoked, or not an access token of this API.
        """
        if self._generation != self._keys.generation:
            self._known.clear()
            self._generation = self._keys.generation
        if len(token) > MAX_TOKEN:
            raise InvalidToken("The token is too long.")
        fingerprint = sha256(token.encode("utf-8", "surrogatepass")).digest()
        identity = self._known.get(fingerprint)
        if identity is None:
            identity = self._verified(token)
            if len(self._known) >= CACHE_SIZE:
                self._known.clear()
            self._known[fingerprint] = identity
        if self._clock() >= identity.expires:
            self._known.pop(fingerprint, None)
            raise InvalidToken("The token has expired.")
        return identity

    def _verified(self, token: str) -> Identity:
        if _SHAPE.fullmatch(token) is None:
            raise InvalidToken("The token is malformed.")
        kid = _checked_header(token.partition(".")[0])
        key = self._keys.verifying(kid)
        if key is None:
            raise UnknownKey("The token is signed by an unknown key.")
        try:
            claims = jwt.decode(
                token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=dict(_OPTIONS)
            )
        except Exception:
            # Hostile input makes the library raise more than JWTError.
            raise InvalidToken("The token is not valid.") from None
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        expires, begins = _seconds(claims, "exp"), _seconds(claims, "nbf")
        _seconds(claims, "iat")
        if claims.get("token_type") != TOKEN_TYPE:
            raise InvalidToken("The token is not an access token.")
        if claims["aud"] != AUDIENCE or claims["iss"] != ISSUER:
            raise InvalidToken("The token was issued for another audience.")
        scope, token_id = claims.get("scope"), claims["jti"]
        if not isinstance(scope, str) or not token_id or not claims["sub"]:
            raise InvalidToken("The token lacks a claim.")
        if begins > self._clock() + CLOCK_SKEW:
            raise InvalidToken("The token is not valid yet.")
        if self._keys.is_revoked(token_id, claims["sub"]):
            raise InvalidToken("The token is revoked.")
        return Identity(claims["sub"], frozenset(scope.split()), token_id, expires)


def _checked_header(segment: str) -> str:
    """The key id in the header, which must not contain anything but algorithm, key id and type."""
    try:
        padded = segment + "=" * (-len(segment) % 4)
        header = strict_json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):
        raise InvalidToken("The token's header is malformed.") from None
    if not isinstance(header, dict) or not set(header) <= _HEADER_NAMES:
        raise InvalidToken("The token's header is not accepted.")
    kid = header.get("kid")
    if header.get("alg") != ALGORITHM or header.get("typ") != "JWT" or not isinstance(kid, str):
        raise InvalidToken("The token's header is not accepted.")
    return kid


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise InvalidToken(f"The token's {name} is missing or malformed.")
    return value
