"""What a run did, as figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.dead_letters import DeadLetter
from fraud_adapters.kafka import Record
from fraud_streaming.work import Outcome


@dataclass(slots=True)
class Report:
    """Counts of what was committed; `lag` is None until a fetch has shown the end of the topic."""

    consumed: int = 0
    stored: int = 0
    replayed: int = 0
    dead_lettered: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    seconds: float = 0.0
    lag: int | None = None
    _latencies: list[NDArray[np.int64]] = field(default_factory=list)

    def committed(
        self,
        records: Sequence[Record],
        outcome: Outcome,
        letters: Sequence[DeadLetter],
        committed_at_ms: int,
    ) -> None:
        """Count a chunk whose transaction has been committed at `committed_at_ms` (since 1970)."""
        self.consumed += len(records)
        self.stored += outcome.stored
        self.replayed += outcome.replayed
        self.dead_lettered.update(str(letter.reason) for letter in letters)
        self.batches += 1
        self._latencies.append(
            committed_at_ms - np.array([record.timestamp_ms for record in records], dtype=np.int64)
        )

    def as_result(self) -> dict[str, Any]:
        """JSON-ready; latency is from the record's timestamp to its commit, in milliseconds."""
        latency = None
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
