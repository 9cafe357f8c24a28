"""The engine of a Dask cluster: tables lie in parts, and each worker works on the parts it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Final, TypeVar

from psycopg2.extensions import connection as Connection  # noqa: N812

from config import constants, settings
from config.parameters import Training
from fraud_adapters.dask_cluster import DaskCluster, workers_of
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_trainer.candidates.choosing import Parts
from fraud_trainer.candidates.final_fit import FinalFit, LocalFit
from fraud_trainer.engines.boosting import DaskFit, RemoteRows
from fraud_trainer.engines.tables import Access
from fraud_trainer.engines.tasks import TrainingRows
from fraud_trainer.train.preparing import FittedPreparation

Item = TypeVar("Item")
Output = TypeVar("Output")

ROWS_A_PART: Final = 200_000
_PARTS_A_WORKER: Final = 2  # so that a worker that ends early, or is lost, leaves little to do


@dataclass(frozen=True, slots=True)
class WorkerAccess:
    """What a worker opens by its own environment; only the names of the run are sent to it."""

    dag: str
    run_id: str
    steps: Sequence[str]

    @property
    def run(self) -> RunStore:
        return RunStore(_store(), self.dag, self.run_id, self.steps)

    @property
    def database(self) -> Callable[[], Connection]:
        url = settings.load(settings.DatabaseSettings).url
        return lambda: connect(url, "fraud_trainer")


def own_access(access: Access) -> WorkerAccess:
    """The access to the same run of a worker that has the run's object store and database itself."""
    return WorkerAccess(access.run.dag, access.run.run_id, tuple(access.run.steps))


@cache
def _store() -> ObjectStore:
    return ObjectStore(settings.load(settings.ObjectStoreSettings), constants.BUCKET_RUNS)


class DaskEngine:
    """The workers behind DASK_SCHEDULER.

    Args:
        address: of the scheduler.
        access_of_workers: makes what a worker reaches the run with, of what this process does; it is pickled.
    """

    def __init__(self, address: str, access_of_workers: Callable[[Access], Access] = own_access) -> None:
        self._cluster = DaskCluster(address)
        self._access_of_workers = access_of_workers
        self.name = f"dask at {address}"

    def pieces(self, rows: int) -> int:
        with self._cluster.client() as client:
            workers = len(workers_of(client))
        return max(_PARTS_A_WORKER * workers, -(-rows // ROWS_A_PART))

    def map(
        self, access: Access, work: Callable[[Access, Item], Output], items: Sequence[Item]
    ) -> list[Output]:
        with self._cluster.client() as client:
            return self._cluster.map(client, partial(work, self._access_of_workers(access)), items)

    def final_fit(
        self,
        training: Training,
        rows: TrainingRows,
        prepared: FittedPreparation,
        parts: Parts,
    ) -> FinalFit:
        if encoded := [prepared.trees.columns[position].name for position in prepared.targets]:
            raise LastingFailure(
                f"{', '.join(encoded)}: an encoding by target needs all training rows in one process: choose "
                "another one in the contract's `prepare`, or unset DASK_SCHEDULER."
            )
        remote = RemoteRows(replace(rows, access=self._access_of_workers(rows.access)), prepared)
        return DaskFit(self._cluster, remote, LocalFit(parts.train, parts.stopping, training.seed))
