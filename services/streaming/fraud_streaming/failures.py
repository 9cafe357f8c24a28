"""What can go wrong with the consumer: what may pass by itself, and what needs a person."""

from __future__ import annotations

from typing import Final

import psycopg2

from fraud_adapters.api_client import ApiRefused, ApiUnavailable
from fraud_adapters.kafka import KafkaFailure, PositionUnreadable
from fraud_adapters.offsets import OffsetMoved
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_streaming.claim import PositionLost, TopicChanged
from fraud_streaming.flood import PoisonFlood

# Trying again later may help: a part is down, or another consumer was faster.
PASSING: Final = (
    *(DatabaseUnavailable, psycopg2.OperationalError, psycopg2.InterfaceError),
    *(KafkaFailure, ApiUnavailable, OffsetMoved),
)
# Trying again gives the same.
LASTING: Final = (ApiRefused, TopicChanged, PositionLost, PositionUnreadable, PoisonFlood)


def sentence(error: BaseException) -> str:
    """The failure in one sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, psycopg2.InterfaceError):
        return f"The connection to Postgres broke: {text}."
    if isinstance(error, psycopg2.OperationalError):
        return f"Postgres went away: {text}."
    return str(error) if isinstance(error, (*PASSING, *LASTING)) else f"{type(error).__name__}: {text}."
