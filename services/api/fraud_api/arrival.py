"""The arrival of a request: its time and its trace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

from fastapi import Request

from fraud_core.traceparent import parse_traceparent

_ARRIVAL: Final = "fraud_api.arrival"  # key in the ASGI scope of a request


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at` is wall-clock time; `started` is a performance counter value, from which latency is measured."""

    at: datetime
    started: float
    traceparent: str | None


def note_arrival(request: Request) -> None:
    """Record the arrival of the request; called before its token is checked."""
    traceparent = parse_traceparent(request.headers.get("traceparent"))
    request.scope[_ARRIVAL] = Arrival(datetime.now(UTC), perf_counter(), traceparent)


def arrival_of(request: Request) -> Arrival:
    arrival: Arrival = request.scope[_ARRIVAL]
    return arrival
