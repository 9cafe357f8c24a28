"""The context that all verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import Parameters
from fraud_adapters.deployments_client import DeploymentsClient
from fraud_adapters.models.registry import Registry
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.replica_client import ReleaseReplica
from fraud_core.contract import Contract


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run's contract, parameters and connections; the database is connected to on demand.

    Attributes:
        run: the folder for files of this run; None if the run was not named, as for a verb of a person.
    """

    contract: Contract
    parameters: Parameters
    api: DeploymentsClient
    replica: Callable[[], ReleaseReplica]
    registry: Callable[[], Registry]
    database: Callable[[], Connection]
    folder: Callable[[str], RunStore]
    dag: str
    now: datetime
