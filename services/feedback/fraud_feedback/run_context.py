"""The context of a run of the feedback collection that all verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import Parameters
from fraud_core.contract import Contract


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run, its parameters, and connections that are opened on demand."""

    contract: Contract
    parameters: Parameters
    database: Callable[[], Connection]
    dag: str
    run_id: str
