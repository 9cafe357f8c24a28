"""Why a request is not passed on."""

from __future__ import annotations

from pydantic import ValidationError


class Refused(Exception):
    """The request is answered by the proxy itself; the message is one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def sentence(error: ValidationError) -> str:
    """The first field that is wrong, and why; never its value, which may be a secret."""
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "A name"
    # The name of a field that is not on the list comes from outside.
    shown = field.encode("unicode_escape").decode("ascii")[:100]
    if first["type"] == "extra_forbidden":
        return f"{shown}: jobs do not set this."
    return f"{shown}: {first['msg'].removeprefix('Value error, ')}."
