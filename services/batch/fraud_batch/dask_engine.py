"""Scores chunks on the workers of a Dask cluster.

This process reads the input, and writes what comes back in its order, so that a run resumes where it was and
names bad rows by their lines; only scoring is spread. A chunk whose worker dies is scored by another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fraud_adapters.dask_cluster import DaskCluster, workers_of
from fraud_adapters.job.scratch import scratch_directory
from fraud_batch.chunks import Chunk, ChunkScorer, ScoredChunk, ScoringPlan

if TYPE_CHECKING:
    from distributed import Client, Future

_WAITING: Final = 3  # chunks for each thread of the workers: one at work, two on their way
_RETRIES: Final = 3


class DaskEngine:
    """Scores on the workers behind a client."""

    def __init__(self, cluster: DaskCluster, client: Client, plan: ScoringPlan) -> None:
        workers = len(workers_of(client))
        self.name = f"dask at {cluster.address}, {workers} worker{'s' if workers > 1 else ''}"
        self._cluster = cluster
        self._client = client
        self._room = _WAITING * sum(client.nthreads().values())
        # A task of its own: the plan goes to a worker once, not with each chunk, and is there again when the
        # worker that had it is lost.
        self._plan = client.submit(_held, plan, pure=False)

    def scored(self, chunks: Iterator[Chunk]) -> Iterator[ScoredChunk]:
        waiting: deque[Future[ScoredChunk]] = deque()
        try:
            for chunk in chunks:
                waiting.append(self._client.submit(_score, self._plan, chunk, pure=False, retries=_RETRIES))
                if len(waiting) >= self._room:
                    yield self._cluster.result(waiting.popleft())
            while waiting:
                yield self._cluster.result(waiting.popleft())
        finally:
            self._client.cancel(list(waiting), force=True)


def _held(plan: ScoringPlan) -> ScoringPlan:
    return plan


def _score(plan: ScoringPlan, chunk: Chunk) -> ScoredChunk:
    return _scorer(_PlanKey(plan)).score(chunk)


class _PlanKey:
    """A plan as a key of the cache: a worker holds the same object for all chunks of a run."""

    def __init__(self, plan: ScoringPlan) -> None:
        self.plan = plan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PlanKey) and other.plan is self.plan

    def __hash__(self) -> int:
        return id(self.plan)


@lru_cache(maxsize=2)
def _scorer(key: _PlanKey) -> ChunkScorer:
    with scratch_directory() as directory:
        return ChunkScorer.of(key.plan, directory)
