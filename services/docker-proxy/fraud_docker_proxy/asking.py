"""A request as the proxy reads it: nothing in it has a name twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request

from fraud_docker_proxy.refusals import Refused

BODY_LIMIT_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked; `path` is decoded."""

    method: str
    path: str
    query: dict[str, Any]
    body: bytes = field(repr=False)


async def read(request: Request) -> Asked:
    """The request, whole.

    Raises:
        Refused: it is too large or compressed, or would have another protocol than HTTP.
    """
    if "upgrade" in request.headers:
        raise Refused(403, "The proxy hands out no raw connection.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Content-Encoding: the proxy reads bodies as they are, without compression.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT_BYTES:
            raise Refused(413, f"The body is larger than {BODY_LIMIT_BYTES // 1024} KiB.")
    query = _once(request.query_params.multi_items())
    return Asked(request.method, request.scope["path"], query, body)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        Refused: it is none, or holds a name twice.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is no JSON.") from None
    if not isinstance(document, dict):
        raise Refused(400, "The body is no JSON object.")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Refused(400, "The request holds a name twice.")
    return document
