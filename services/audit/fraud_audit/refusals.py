"""Requests that are refused, with a sentence for the person who made them."""

from __future__ import annotations


class PageRefused(Exception):
    """Answered with this status and a page that shows the sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class LogInNeeded(Exception):
    """There is no session: the person is led to the log-in page."""
