"""Requests that are repeated while all servers start at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fraud_trainer import first_start
from fraud_trainer.first_start import retry_until_available


class Busy(Exception):
    pass


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_start, "_PAUSE_S", 0)


def test_what_is_busy_is_asked_again() -> None:
    answers: Iterator[Exception | str] = iter([Busy("starting"), Busy("starting"), "there"])

    def query() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry_until_available(query, Busy, 60) == "there"


def test_what_stays_busy_is_said() -> None:
    def query() -> None:
        raise Busy("still starting")

    with pytest.raises(Busy, match="still starting"):
        retry_until_available(query, Busy, -1)


def test_anything_else_is_not_asked_again() -> None:
    calls = []

    def query() -> None:
        calls.append(1)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        retry_until_available(query, Busy, 60)
    assert len(calls) == 1
