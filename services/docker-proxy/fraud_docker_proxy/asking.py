"""A request as the proxy reads it: anything two readers could understand in two ways is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from fraud_docker_proxy.refusals import Refused

BODY_LIMIT_BYTES: Final = 256 * 1024
_PATH: Final = re.compile(r"(?:/v1\.[0-9]{1,3})?((?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+)")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: `path` without the API's version."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes = field(repr=False)


async def read(request: Request) -> Asked:
    """The request, when it is one a plain client would send.

    Raises:
        Refused: it is not.
    """
    length = _length(request)
    path = _path(request)
    query = _query(request)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > min(length, BODY_LIMIT_BYTES):
            raise _too_large()
    return Asked(request.method, path, query, body)


def take(query: Mapping[str, str], forms: Mapping[str, str]) -> dict[str, str]:
    """The query, when all its parameters are among `forms` and their values match them.

    Raises:
        Refused: it names the parameter.
    """
    for name, value in query.items():
        if name not in forms:
            raise Refused(400, f"The parameter {name[:50]!r} is not taken here: {_list(forms)}.")
        if not re.fullmatch(forms[name], value, re.ASCII):
            raise Refused(400, f"The parameter {name} has a value that is not taken.")
    return dict(query)


def _list(names: Collection[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there is none"


def _path(request: Request) -> str:
    # As it came: the decoded path hides %2f and %2e.
    raw = request.scope["raw_path"].decode("ascii", errors="replace").partition("?")[0]
    match = _PATH.fullmatch(raw)
    if match is None:
        raise Refused(400, "The path holds what no call of the Docker API needs.")
    return match[1]


def _query(request: Request) -> dict[str, str]:
    try:
        raw = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=bool(raw), errors="strict")
    except ValueError:
        raise Refused(400, "The query cannot be read.") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused(400, "The query holds a parameter twice.")
    return dict(pairs)


def _length(request: Request) -> int:
    """How many bytes the body has; checks what else the headers say about the message."""
    headers = request.headers
    if "upgrade" in headers or "upgrade" in headers.get("connection", "").lower():
        raise Refused(403, "The proxy hands out no raw connection.")
    if "transfer-encoding" in headers:
        raise Refused(411, "Send the body with its Content-Length.")
    lengths = headers.getlist("content-length")
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Refused(400, "Content-Length cannot be read.")
    if int(lengths[0]) > BODY_LIMIT_BYTES:
        raise _too_large()
    return int(lengths[0])


def _too_large() -> Refused:
    return Refused(413, f"The body is larger than {BODY_LIMIT_BYTES // 1024} KiB.")
