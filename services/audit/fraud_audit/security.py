"""Headers of every response, the session cookie, and what a request that changes something must prove."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_audit.refusals import PageRefused

MAX_FORM_BYTES: Final = 65_536
# Nothing is inline and nothing comes from elsewhere.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeaders:
    """ASGI middleware: adds the headers, and keeps pages out of caches."""

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._headers = (*_HEADERS, _HSTS) if secure else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                cache = b"no-cache" if scope["path"].startswith("/static/") else b"no-store"
                message["headers"] = [*message["headers"], *self._headers, (b"cache-control", cache)]
            await send(message)

        await self._app(scope, receive, with_headers)


def new_token() -> str:
    """A random token, for a session or against forged requests."""
    return secrets.token_urlsafe(32)


def session_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def cookie_name(secure: bool) -> str:
    # A cookie with this prefix is only accepted from the host itself, by HTTPS.
    return "__Host-fraud_session" if secure else "fraud_session"


def set_session_cookie(response: Response, token: str, secure: bool, seconds: int) -> None:
    response.set_cookie(
        cookie_name(secure), token, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict"
    )


def delete_session_cookie(response: Response, secure: bool) -> None:
    response.delete_cookie(cookie_name(secure), path="/", secure=secure, httponly=True, samesite="strict")


def require_own_origin(request: Request) -> None:
    """Refuse a request that changes something and does not come from a page of this host.

    Raises:
        PageRefused: its Origin is another one or missing.
    """
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    # Behind a proxy that speaks TLS the scheme differs, so hosts are compared.
    if not host or urlsplit(origin).netloc != host or site not in {"same-origin", "none"}:
        raise PageRefused(403, "This request did not come from a page of this app.")


def require_csrf_token(request: Request, form: dict[str, str], expected: str) -> None:
    """Refuse a request without its session's token, in the form or in the header of htmx.

    Raises:
        PageRefused: the token is missing or another session's.
    """
    token = form.get("csrf") or request.headers.get("x-csrf-token") or ""
    if not hmac.compare_digest(token.encode(), expected.encode()):
        raise PageRefused(403, "This page is out of date: load it again, then repeat what you did.")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded form; of a repeated one the last value.

    Raises:
        PageRefused: it is too long or not a form.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise PageRefused(413, "This form is too long.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError:
        raise PageRefused(400, "This form cannot be read.") from None
