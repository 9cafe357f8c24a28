"""Where chunks are scored. `choose_engine` is the one place that decides it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from fraud_adapters.dask_cluster import DaskCluster
from fraud_adapters.job.scratch import scratch_directory
from fraud_batch.chunks import Chunk, ChunkScorer, ScoredChunk, ScoringPlan


class Engine(Protocol):
    """Scores the chunks of a run."""

    name: str  # for the report

    def scored(self, chunks: Iterator[Chunk]) -> Iterator[ScoredChunk]:
        """The same chunks, scored, in their order.

        It holds a bounded number of chunks, however many there are, and reads the next one only when there is
        room for it.
        """
        ...


class LocalEngine:
    """Scores in threads of this process: Arrow, NumPy and XGBoost work outside the interpreter's lock."""

    def __init__(self, scorer: ChunkScorer, threads: int) -> None:
        self.name = f"local, {threads} thread{'s' if threads > 1 else ''}"
        self._scorer = scorer
        self._threads = threads

    def scored(self, chunks: Iterator[Chunk]) -> Iterator[ScoredChunk]:
        waiting: deque[Future[ScoredChunk]] = deque()
        with ThreadPoolExecutor(self._threads, "score") as executor:
            try:
                for chunk in chunks:
                    waiting.append(executor.submit(self._scorer.score, chunk))
                    if len(waiting) > self._threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


@contextmanager
def choose_engine(plan: ScoringPlan, threads: int, scheduler: str | None = None) -> Iterator[Engine]:
    """The engine of a run: the Dask cluster of a scheduler, or without one this process.

    Raises:
        ModelRefused: the version's files are not the registered ones, or of another contract.
        ClusterUnavailable, ClusterUnfit: the cluster cannot be used.
    """
    with scratch_directory() as directory:
        # Loaded here in any case, so that a model that is refused is refused before any worker has it.
        scorer = ChunkScorer.of(plan, directory)
    if scheduler is None:
        yield LocalEngine(scorer, threads)
        return
    from fraud_batch.dask_engine import DaskEngine  # noqa: PLC0415 - imports Dask

    cluster = DaskCluster(scheduler)
    with cluster.client() as client:
        yield DaskEngine(cluster, client, plan)
