"""The counts and latencies of a run."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.job_results.streaming import FollowResult, Latency, TopicResult
from fraud_streaming.consume.commit import Committed

# A follower runs for months: memory is bounded by reporting the latency of the latest records only.
LATENCY_RECORDS: Final = 100_000


@dataclass(slots=True)
class Report:
    """Counts of the committed records; `lag` is None until a fetch has shown the end of the topic."""

    consumed: int = 0
    stored: int = 0
    replayed: int = 0
    dead_lettered: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    seconds: float = 0.0
    lag: int | None = None
    _latencies: deque[NDArray[np.int64]] = field(default_factory=deque)
    _latencies_kept: int = 0

    def committed(self, done: Committed) -> None:
        """Count a chunk; a chunk without records only moves positions and is not counted."""
        if not done.chunk.records:
            return
        self.consumed += len(done.chunk.records)
        self.stored += done.outcome.stored
        self.replayed += done.outcome.replayed
        self.dead_lettered.update(str(letter.reason) for letter in done.dead_letters)
        self.batches += 1
        self._keep(done.latencies_ms())

    def _keep(self, latencies: NDArray[np.int64]) -> None:
        self._latencies.append(latencies)
        self._latencies_kept += len(latencies)
        while self._latencies_kept - len(self._latencies[0]) >= LATENCY_RECORDS:
            self._latencies_kept -= len(self._latencies.popleft())

    def as_result(self) -> TopicResult:
        """JSON-ready."""
        latency: Latency | None = None
        if self._latencies:
            p50, p99 = np.percentile(np.concatenate(self._latencies), [50, 99])
            latency = {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
        return {
            "consumed": self.consumed,
            "stored": self.stored,
            "replayed": self.replayed,
            "dead_lettered": dict(self.dead_lettered),
            "batches": self.batches,
            "seconds": round(self.seconds, 3),
            "latency_ms": latency,
            "lag": self.lag,
        }


def result_of(reports: Mapping[str, Report]) -> FollowResult:
    """The result of a consumer from the reports of its topics; a topic without a report counts as zero."""
    transactions = reports.get("transactions", Report()).as_result()
    return {"status": "done", **transactions, "labels": reports.get("labels", Report()).as_result()}
