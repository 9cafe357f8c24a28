"""The media type of a request's body."""

from __future__ import annotations

from fastapi import Request

from fraud_api.problems import Problem


def media_type(request: Request, default: str = "") -> str:
    """The body's media type in lower case, without parameters.

    Raises:
        Problem: 415, the body is compressed, so its uncompressed size is unknown.
    """
    codings = ",".join(request.headers.getlist("content-encoding")).split(",")
    if any(coding.strip().lower() not in {"", "identity"} for coding in codings):
        raise Problem(
            415,
            "Content-Encoding: compressed bodies are not accepted; send the body without compression.",
            headers={"Accept-Encoding": "identity"},
        )
    return request.headers.get("content-type", default).partition(";")[0].strip().lower()
