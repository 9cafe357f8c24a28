"""Tokens: what is accepted, and everything that must not be. PyJWT is the second opinion."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from threading import Event
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from fastapi import Request
from jose import jwt as jose_jwt

from fraud_api import auth, tokens
from fraud_api.keys import Keyring, KeyState
from fraud_api.tokens import Identity, InvalidToken, UnknownKey, Verifier

NOW = 1_900_000_000
LIFETIME = 600


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def make_key() -> tuple[str, str]:
    """A private key and its public one, in PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )


PRIVATE, PUBLIC = make_key()
OTHER_PRIVATE, OTHER_PUBLIC = make_key()


def state(**changes: Any) -> KeyState:
    fields: dict[str, Any] = {
        "public": {"ours": PUBLIC},
        "signing_kid": "ours",
        "signing_pem": PRIVATE,
        "revoked_tokens": frozenset(),
        "inactive_clients": frozenset(),
    }
    return KeyState(**(fields | changes))


@pytest.fixture
def keyring() -> Keyring:
    keyring = Keyring()
    keyring.replace(state())
    return keyring


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(keyring: Keyring, clock: Clock) -> Verifier:
    return Verifier(keyring, clock)


def issued(keyring: Keyring, jti: str = "t-1") -> str:
    assert keyring.signing is not None
    return tokens.issue(
        keyring.signing,
        "alice",
        frozenset({"read", "predict"}),
        now=NOW,
        lifetime=LIFETIME,
        token_id=jti,
    )


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; `...` as a value drops a claim."""
    good: dict[str, Any] = {
        "iss": tokens.ISSUER,
        "aud": tokens.AUDIENCE,
        "sub": "alice",
        "scope": "predict",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + LIFETIME,
        "jti": "t-2",
        "token_type": "access",
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes, private: str = PRIVATE) -> str:
    """A token of any bytes whatever, with a good signature."""
    text = f"{encoded(header)}.{encoded(payload)}"
    key = load_pem_private_key(private.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
    return f"{text}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def with_claims(**changes: Any) -> str:
    return with_header({}, **changes)


def with_header(header: dict[str, Any], **changes: Any) -> str:
    full = {"alg": "ES256", "typ": "JWT", "kid": "ours"} | header
    fields = {name: value for name, value in full.items() if value is not ...}
    return signed(json.dumps(fields).encode(), json.dumps(claims(**changes)).encode())


def hmac_signed(secret: bytes) -> str:
    header = json.dumps({"alg": "HS256", "typ": "JWT", "kid": "ours"}).encode()
    text = f"{encoded(header)}.{encoded(json.dumps(claims()).encode())}"
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def test_a_token_of_ours_is_accepted(keyring: Keyring, verifier: Verifier) -> None:
    identity = verifier.verify(issued(keyring))
    assert identity == Identity("alice", frozenset({"read", "predict"}), "t-1", NOW + LIFETIME)


def test_the_hand_made_good_token_is_accepted(verifier: Verifier) -> None:
    # Otherwise the refusals below might be refused for another reason.
    assert verifier.verify(with_claims()).client_id == "alice"


def test_pyjwt_verifies_our_tokens_with_the_published_keys(keyring: Keyring) -> None:
    token = issued(keyring)
    keys = pyjwt.PyJWKSet.from_dict(keyring.jwks())
    key = keys[pyjwt.get_unverified_header(token)["kid"]]
    content = pyjwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=tokens.AUDIENCE,
        issuer=tokens.ISSUER,
        options={
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "require": ["exp", "nbf", "jti"],
        },
    )
    assert content["sub"] == "alice"
    assert "d" not in keyring.jwks()["keys"][0]


REFUSED_CLAIMS: dict[str, dict[str, Any]] = {
    "no aud": {"aud": ...},
    "wrong aud": {"aud": "other"},
    "aud among others": {"aud": [tokens.AUDIENCE, "other"]},
    "aud null": {"aud": None},
    "no iss": {"iss": ...},
    "wrong iss": {"iss": "https://elsewhere"},
    "no exp": {"exp": ...},
    "exp text": {"exp": str(NOW + LIFETIME)},
    "exp fraction": {"exp": NOW + 0.5},
    "exp true": {"exp": True},
    "exp infinite": {"exp": float("inf")},
    "exp huge": {"exp": 10**400},
    "exp negative": {"exp": -1},
    "expired": {"exp": NOW - 1},
    "expires now": {"exp": NOW},
    "no nbf": {"nbf": ...},
    "nbf ahead": {"nbf": NOW + tokens.CLOCK_SKEW + 1},
    "no iat": {"iat": ...},
    "no jti": {"jti": ...},
    "empty jti": {"jti": ""},
    "jti number": {"jti": 7},
    "no sub": {"sub": ...},
    "sub number": {"sub": 7},
    "no type": {"token_type": ...},
    "refresh token": {"token_type": "refresh"},
    "no scope": {"scope": ...},
    "scope list": {"scope": ["predict", "admin"]},
}


@pytest.mark.parametrize("changes", REFUSED_CLAIMS.values(), ids=REFUSED_CLAIMS)
def test_claims_that_are_refused(verifier: Verifier, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(with_claims(**changes))


REFUSED_HEADERS: dict[str, dict[str, Any]] = {
    "alg none": {"alg": "none"},
    "no alg": {"alg": ...},
    "alg in lower case": {"alg": "es256"},
    "alg a list": {"alg": ["ES256"]},
    "another algorithm": {"alg": "ES384"},
    "crit": {"crit": ["exp"], "exp": 1},
    "jku": {"jku": "https://elsewhere/keys"},
    "x5u": {"x5u": "https://elsewhere/cert"},
    "jwk": {"jwk": {"kty": "EC"}},
    "no kid": {"kid": ...},
    "kid number": {"kid": 1},
    "kid list": {"kid": ["ours"]},
    "kid path": {"kid": "../../dev/null"},
    "kid of nobody": {"kid": "theirs"},
    "another typ": {"typ": "JWE"},
    "no typ": {"typ": ...},
    "encrypted": {"enc": "A256GCM"},
}


@pytest.mark.parametrize("changes", REFUSED_HEADERS.values(), ids=REFUSED_HEADERS)
def test_headers_that_are_refused(verifier: Verifier, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(with_header(changes))


HEADER = b'{"alg":"ES256","typ":"JWT","kid":"ours"}'


def _public_der() -> bytes:
    key = load_pem_private_key(PRIVATE.encode(), None)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


MALFORMED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "dots": lambda: "..",
    "one part": lambda: "abc",
    "two parts": lambda: "abc.def",
    "four parts": lambda: with_claims() + ".abc",
    "padding": lambda: with_claims() + "==",
    "junk that base64 would skip": lambda: with_claims().replace(".", "!.", 1),
    "a space": lambda: " " + with_claims(),
    "a newline at the end": lambda: with_claims() + "\n",
    "NUL": lambda: with_claims() + "\0",
    "not ASCII": lambda: "é" + with_claims(),
    "a lone surrogate": lambda: "\ud800" + with_claims(),
    "too long": lambda: "a" * 5000 + "." + "b" * 50 + "." + "c" * 86,
    "very long": lambda: "a" * 10_000_000,
    "header nested 1,000 deep": lambda: signed(b"[" * 1000 + b"]" * 1000, b"{}"),
    "header nested within the size": lambda: signed(b"[" * 180 + b"]" * 180, b"{}"),
    "header with nested value": lambda: signed(b'{"alg":' + b"[" * 150 + b"]" * 150 + b"}", b"{}"),
    "header not JSON": lambda: signed(b"{", b"{}"),
    "header a list": lambda: signed(b"[]", b"{}"),
    "header not UTF-8": lambda: signed(b"\xff\xfe\xfd", b"{}"),
    "payload nested": lambda: signed(HEADER, b"[" * 2900),
    "payload nested and closed": lambda: signed(HEADER, b"[" * 1400 + b"]" * 1400),
    "payload not JSON": lambda: signed(HEADER, b"{"),
    "payload a list": lambda: signed(HEADER, b"[]"),
    "payload not UTF-8": lambda: signed(HEADER, b"\xff\xff"),
    "no signature": lambda: with_claims().rsplit(".", 1)[0] + ".",
    "signature short": lambda: with_claims()[:-4],
    "signature of zeros": lambda: with_claims().rsplit(".", 1)[0] + "." + "A" * 86,
    "signed by another key": lambda: signed(HEADER, json.dumps(claims()).encode(), OTHER_PRIVATE),
    "payload changed": lambda: ".".join(
        [*with_claims().split(".")[:1], encoded(b'{"sub":"root"}'), with_claims().split(".")[2]]
    ),
    "HMAC by the public key in PEM": lambda: hmac_signed(PUBLIC.encode()),
    "HMAC by the public key in DER": lambda: hmac_signed(_public_der()),
    "HMAC by nothing": lambda: hmac_signed(b""),
    "alg none unsigned": lambda: ".".join(
        [encoded(b'{"alg":"none"}'), encoded(json.dumps(claims()).encode()), ""]
    ),
}


@pytest.mark.parametrize("make", MALFORMED.values(), ids=MALFORMED)
def test_tokens_that_are_refused(verifier: Verifier, make: Callable[[], str]) -> None:
    with pytest.raises(InvalidToken):
        verifier.verify(make())


def test_an_unknown_key_is_told_apart_so_that_the_keys_can_be_read_again(verifier: Verifier) -> None:
    with pytest.raises(UnknownKey):
        verifier.verify(with_header({"kid": "theirs"}))


def test_unknown_keys_take_one_thread_however_many_come(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can send such tokens; while the database stalls they must not block other requests."""
    free, lookups = Event(), list[int]()

    class Stalled:
        def __init__(self) -> None:
            self.keyring = keyring

        def reload_for_unknown_key(self) -> None:
            lookups.append(1)
            free.wait(5)

    monkeypatch.setattr(auth, "KEY_LOOKUP_SECONDS", 0.05)
    headers = [(b"authorization", b"Bearer " + with_header({"kid": "theirs"}).encode())]
    request = Request({"type": "http", "headers": headers})

    async def story() -> list[Any]:
        authenticator = auth.Authenticator(Stalled(), lambda: NOW)  # type: ignore[arg-type]
        answers = await asyncio.gather(
            *(authenticator.authorise(request, "predict") for _ in range(20)), return_exceptions=True
        )
        free.set()
        return list(answers)

    answers = asyncio.run(story())
    assert [answer.status for answer in answers] == [401] * 20
    assert len(lookups) == 1


def test_a_remembered_token_expires(keyring: Keyring, verifier: Verifier, clock: Clock) -> None:
    token = issued(keyring)
    verifier.verify(token)
    clock.now = NOW + LIFETIME - 1
    verifier.verify(token)
    clock.now = NOW + LIFETIME
    with pytest.raises(InvalidToken, match="expired"):
        verifier.verify(token)


def test_the_cache_spares_the_second_verification(
    keyring: Keyring, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issued(keyring)
    first = verifier.verify(token)

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("verified again")

    monkeypatch.setattr(jose_jwt, "decode", refuse)
    assert verifier.verify(token) is first


REVOCATIONS: dict[str, dict[str, Any]] = {
    "the token": {"revoked_tokens": frozenset({"t-1"})},
    "the client": {"inactive_clients": frozenset({"alice"})},
    "the key": {"public": {"new": OTHER_PUBLIC}, "signing_kid": "new", "signing_pem": OTHER_PRIVATE},
}


@pytest.mark.parametrize("changes", REVOCATIONS.values(), ids=REVOCATIONS)
def test_a_remembered_token_is_refused_once_revoked(
    keyring: Keyring, verifier: Verifier, changes: dict[str, Any]
) -> None:
    token = issued(keyring)
    verifier.verify(token)
    keyring.replace(state(**changes))
    with pytest.raises(InvalidToken):
        verifier.verify(token)


def test_the_retired_key_still_verifies_while_the_new_one_signs(keyring: Keyring, verifier: Verifier) -> None:
    old = issued(keyring)
    both = {"ours": PUBLIC, "new": OTHER_PUBLIC}
    keyring.replace(state(public=both, signing_kid="new", signing_pem=OTHER_PRIVATE))
    assert verifier.verify(old).client_id == "alice"
    assert pyjwt.get_unverified_header(issued(keyring))["kid"] == "new"
    assert {key["kid"] for key in keyring.jwks()["keys"]} == {"ours", "new"}


def test_the_cache_does_not_grow_without_bound(keyring: Keyring, verifier: Verifier) -> None:
    limit, tokens.CACHE_SIZE = tokens.CACHE_SIZE, 3  # type: ignore[misc]
    try:
        for number in range(10):
            verifier.verify(issued(keyring, f"t-{number}"))
            assert len(verifier._known) <= 3
    finally:
        tokens.CACHE_SIZE = limit  # type: ignore[misc]
