"""Authentication and authorisation by bearer tokens, and the route that issues tokens."""

from __future__ import annotations

import asyncio
import base64
import os
from codecs import BOM_UTF8
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import Response

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.identities import Client
from fraud_api.credentials import secret_matches
from fraud_api.identities import Identities
from fraud_api.media_type import media_type
from fraud_api.problems import Problem, json_response, unavailable
from fraud_api.tokens import Identity, InvalidToken, UnknownKey, Verifier, issue
from fraud_core.identifiers import uuid7

REALM: Final = "fraud-api"
KEY_LOOKUP_SECONDS: Final = 2.0  # how long a request waits while unknown keys are looked up
MAX_FORM_BYTES: Final = 16_384
MAX_CREDENTIAL: Final = 512  # characters of a client id or secret
# Hashing is deliberately slow, so the number of concurrent log-ins is limited: further ones wait, and above
# the second limit they are refused.
LOGINS_AT_ONCE: Final = 2
LOGINS_WAITING: Final = 200


class Authenticator:
    """Checks the bearer tokens of requests."""

    def __init__(self, identities: Identities, clock: Callable[[], float]) -> None:
        self._identities = identities
        self._verifier = Verifier(identities.keyring, clock)
        self._key_reload: asyncio.Task[None] | None = None

    async def authorise(self, request: Request, scope: str) -> Identity:
        """The identity of the request, if it has the scope.

        Raises:
            Problem: 401 without an acceptable token, 403 without the scope, 503 while there are no keys.
        """
        identity = await self._identify(request)
        if scope not in identity.scopes:
            challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'
            raise Problem(
                403, f"The token does not have the scope {scope}.", headers={"WWW-Authenticate": challenge}
            )
        return identity

    async def _identify(self, request: Request) -> Identity:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Problem(
                401,
                "A bearer token is needed; POST /auth/token issues one.",
                headers={"WWW-Authenticate": f'Bearer realm="{REALM}"'},
            )
        if self._identities.keyring.signing is None:
            raise unavailable("The keys of tokens cannot be read at the moment.")
        try:
            return self._verifier.verify(token)
        except UnknownKey:
            await self._reload_keys()
        except InvalidToken as error:
            raise _refused(error) from None
        try:
            return self._verifier.verify(token)
        except InvalidToken as error:
            raise _refused(error) from None

    async def _reload_keys(self) -> None:
        """Look for new keys in the database. All waiting requests share one thread: anybody can invent key
        ids, and while the database does not respond they would otherwise occupy every thread."""
        if self._key_reload is None or self._key_reload.done():
            look = asyncio.to_thread(self._identities.reload_for_unknown_key)
            self._key_reload = asyncio.create_task(look)
        await asyncio.wait([self._key_reload], timeout=KEY_LOOKUP_SECONDS)


def _refused(error: InvalidToken) -> Problem:
    challenge = f'Bearer realm="{REALM}", error="invalid_token"'
    return Problem(401, str(error), headers={"WWW-Authenticate": challenge})


class TokenIssuer:
    """Issues tokens to clients that know their secret; `lifetime` gives the lifetime of a client's tokens."""

    def __init__(
        self, identities: Identities, clock: Callable[[], float], lifetime: Callable[[str], timedelta]
    ) -> None:
        self._identities = identities
        self._clock = clock
        self._lifetime = lifetime
        self._slots = asyncio.Semaphore(LOGINS_AT_ONCE)
        self._waiting = 0

    async def token(self, request: Request) -> Response:
        """`POST /auth/token`: the client credentials grant of OAuth 2 (RFC 6749, section 4.4)."""
        form = _form(request, await request.body())
        client_id, secret = _credentials(request, form)
        if form.get("grant_type") != "client_credentials":
            raise _oauth(400, "unsupported_grant_type", "grant_type must be client_credentials.")
        client = await self._authenticate(client_id, secret)
        scopes = _grant_scopes(client, form.get("scope"))
        return self._issue(client, scopes)

    async def _authenticate(self, client_id: str, secret: str) -> Client:
        if self._waiting >= LOGINS_WAITING:
            raise unavailable("Too many clients are logging in at this moment.")
        self._waiting += 1
        try:
            async with self._slots:
                client, matches = await asyncio.to_thread(self._check, client_id, secret)
        except DatabaseUnavailable:
            raise unavailable(
                "Clients cannot be looked up at the moment: the database does not answer."
            ) from None
        finally:
            self._waiting -= 1
        if client is None or not matches or not client.active:
            get_logger(__name__).warning("login_refused")
            raise _oauth(
                401,
                "invalid_client",
                "The client id or secret is wrong.",
                {"WWW-Authenticate": f'Basic realm="{REALM}"'},
            )
        return client

    def _check(self, client_id: str, secret: str) -> tuple[Client | None, bool]:
        client = self._identities.find(client_id) if client_id.isprintable() else None
        return client, secret_matches(client.secret_hash if client else None, secret)

    def _issue(self, client: Client, scopes: frozenset[str]) -> Response:
        key = self._identities.keyring.signing
        if key is None:
            raise unavailable("The keys of tokens cannot be read at the moment.")
        now = self._clock()
        token_id = uuid7(int(now * 1000), os.urandom(10))
        lifetime = int(self._lifetime(client.client_id).total_seconds())
        token = issue(key, client.client_id, scopes, now=int(now), lifetime=lifetime, token_id=token_id)
        scope = " ".join(sorted(scopes))
        get_logger(__name__).info(
            "issued_access", client_id=client.client_id, jti=token_id, kid=key.kid, scope=scope
        )
        document = {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": lifetime,
            "scope": scope,
        }
        return json_response(document, headers={"Cache-Control": "no-store"})


def _form(request: Request, body: bytes) -> dict[str, str]:
    if media_type(request) != "application/x-www-form-urlencoded":
        raise _oauth(400, "invalid_request", "The body must be application/x-www-form-urlencoded.")
    try:
        text = body.removeprefix(BOM_UTF8).decode("ascii")
        # Forms encode all other characters as %XX. This also rejects UTF-16, which contains NULs.
        if text and not text.isprintable():
            raise ValueError
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=16,
        )
    except ValueError:
        raise _oauth(400, "invalid_request", "The form is malformed.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _oauth(400, "invalid_request", "A parameter is given twice.")
    return form


def _credentials(request: Request, form: dict[str, str]) -> tuple[str, str]:
    header = request.headers.get("authorization")
    if header is not None and "client_secret" in form:
        raise _oauth(400, "invalid_request", "Give the client's secret once: in the header or in the form.")
    client_id, secret = _basic(header) if header else (form.get("client_id"), form.get("client_secret"))
    if not client_id or not secret or max(len(client_id), len(secret)) > MAX_CREDENTIAL:
        raise _oauth(
            401,
            "invalid_client",
            "The client id or secret is missing or malformed.",
            {"WWW-Authenticate": f'Basic realm="{REALM}"'},
        )
    return client_id, secret


def _basic(header: str) -> tuple[str | None, str | None]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None, None
    return (client_id, secret) if colon else (None, None)


def _grant_scopes(client: Client, requested: str | None) -> frozenset[str]:
    if not requested:
        return client.scopes
    requested_scopes = frozenset(requested.split())
    if not requested_scopes <= client.scopes:
        raise _oauth(400, "invalid_scope", "The client does not have all of the requested scopes.")
    return requested_scopes


def _oauth(status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> Problem:
    # OAuth clients read the member `error` (RFC 6749, section 5.2).
    return Problem(status, detail, headers={"Cache-Control": "no-store", **(headers or {})}, error=error)
