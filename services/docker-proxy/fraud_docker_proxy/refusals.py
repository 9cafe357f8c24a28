"""Refusals of requests, and their messages."""

from __future__ import annotations

from pydantic import ValidationError


class RequestRefused(Exception):
    """The proxy does not forward the request; `status` is the HTTP status, the message one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def sentence(error: ValidationError) -> str:
    """Name the first invalid field and the reason, but never its value, which may be a secret."""
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "A name"
    # The name of an unknown field comes from the client, so it is escaped and shortened.
    name = field.encode("unicode_escape").decode("ascii")[:100]
    if first["type"] == "extra_forbidden":
        return f"{name}: jobs do not set this."
    return f"{name}: {first['msg'].removeprefix('Value error, ')}."
