"""A request as the proxy reads it: nothing in it has a name twice."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request

from fraud_docker_proxy.refusals import Refused

BODY_LIMIT_BYTES: Final = 256 * 1024
_VERSION: Final = re.compile(r"^/v1\.[0-9]{1,3}(?=/)")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked; `path` is decoded, and without the version of the API, which is the proxy's to say."""

    method: str
    path: str
    query: dict[str, Any]
    body: bytes = field(repr=False)
    upgrade: bool = False


async def read(request: Request) -> Asked:
    """The request, whole.

    Raises:
        Refused: it is too large or compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Content-Encoding: the proxy reads bodies as they are, without compression.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT_BYTES:
            raise Refused(413, f"The body is larger than {BODY_LIMIT_BYTES // 1024} KiB.")
    query = _once(request.query_params.multi_items())
    path = _VERSION.sub("", request.scope["path"])
    return Asked(request.method, path, query, body, "upgrade" in request.headers)


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
