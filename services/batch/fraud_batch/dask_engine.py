"""Scores chunks on the workers of a Dask cluster.

This process reads the input, and writes what comes back in its order, so that a run resumes where it was and
names bad rows by their lines; only scoring is spread. A chunk whose worker dies is scored by another.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fraud_adapters.dask_cluster import DaskCluster, workers_of
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
        # One copy for each worker, instead of one with each chunk.
        self._plan = client.scatter(plan, broadcast=True, hash=False)

    def scored(self, chunks: Iterator[Chunk]) -> Iterator[ScoredChunk]:
        waiting: deque[Future] = deque()
        try:
            for chunk in chunks:
                waiting.append(
                    self._client.submit(_score, self._plan, chunk, pure=False, retries=_RETRIES)
                )
                if len(waiting) >= self._room:
                    yield self._cluster.result(waiting.popleft())
            while waiting:
                yield self._cluster.result(waiting.popleft())
        finally:
            self._client.cancel(list(waiting), force=True)


def _score(plan: ScoringPlan, chunk: Chunk) -> ScoredChunk:
    return _scorers(_Key(plan)).score(chunk)


class _Key:
    """A plan as a key of the cache: the scattered one is the same object for every chunk of a run."""

    def __init__(self, plan: ScoringPlan) -> None:
        self.plan = plan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.plan is self.plan

    def __hash__(self) -> int:
        return id(self.plan)


@lru_cache(maxsize=2)
def _scorers(key: _Key) -> ChunkScorer:
    with tempfile.TemporaryDirectory(prefix="fraud-") as directory:
        return ChunkScorer.of(key.plan, Path(directory))
