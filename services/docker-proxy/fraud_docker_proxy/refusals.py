"""Why a request is not passed on."""

from __future__ import annotations


class Refused(Exception):
    """The request is answered by the proxy itself; the message is one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
