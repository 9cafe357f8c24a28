"""Requests as the proxy reads them, without duplicate names."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request

from fraud_docker_proxy.refusals import RequestRefused

BODY_LIMIT_BYTES: Final = 256 * 1024
_VERSION: Final = re.compile(r"^/v1\.[0-9]{1,3}(?=/)")


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """A client's request. `path` is decoded and has no API version, which the proxy chooses itself."""

    method: str
    path: str
    query: dict[str, Any]
    body: bytes = field(repr=False)
    upgrade: bool = False


async def read_request(request: Request) -> ProxiedRequest:
    """Read the whole request.

    Raises:
        RequestRefused: it is too large or compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(415, "Content-Encoding: the proxy accepts uncompressed bodies only.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT_BYTES:
            raise RequestRefused(413, f"The body is larger than {BODY_LIMIT_BYTES // 1024} KiB.")
    query = _unique_keys(request.query_params.multi_items())
    path = _VERSION.sub("", request.scope["path"])
    return ProxiedRequest(request.method, path, query, body, "upgrade" in request.headers)


def parse_json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        RequestRefused: it is not a JSON object, or it contains a duplicate name.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise RequestRefused(400, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise RequestRefused(400, "The body is not a JSON object.")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise RequestRefused(400, "The request contains a duplicate name.")
    return document
