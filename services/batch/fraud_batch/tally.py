"""What is counted of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np

from fraud_batch.chunks import ScoredChunk
from fraud_core.decision import BY_RANK

BINS: Final = 20  # of the histogram of scores, all as wide


@dataclass(slots=True)
class Tally:
    """Counts of rows; they can be added up.

    Attributes:
        flagged: rows whose score reaches the model's threshold.
        histogram: counts of scores from 0 to 1; the last bin includes 1.
        reasons: of refused rows.
    """

    rows: int = 0
    scored: int = 0
    refused: int = 0
    flagged: int = 0
    decisions: dict[str, int] = field(default_factory=lambda: {str(one): 0 for one in BY_RANK})
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    reasons: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, chunk: ScoredChunk) -> Self:
        ranks = np.bincount(chunk.ranks, minlength=len(BY_RANK))
        histogram, _ = np.histogram(chunk.scores, BINS, (0.0, 1.0))
        return cls(
            rows=len(chunk.ids) + len(chunk.rejected),
            scored=len(chunk.ids),
            refused=len(chunk.rejected),
            flagged=int(ranks[1:].sum()),
            decisions={str(name): int(count) for name, count in zip(BY_RANK, ranks, strict=True)},
            histogram=[int(count) for count in histogram],
            reasons=dict(Counter(str(row.reason) for row in chunk.rejected)),
        )

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Self:
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, other: Tally) -> None:
        self.rows += other.rows
        self.scored += other.scored
        self.refused += other.refused
        self.flagged += other.flagged
        self.decisions = dict(Counter(self.decisions) + Counter(other.decisions))
        self.decisions = {str(name): self.decisions.get(str(name), 0) for name in BY_RANK}
        self.histogram = [a + b for a, b in zip(self.histogram, other.histogram, strict=True)]
        self.reasons = dict(sorted((Counter(self.reasons) + Counter(other.reasons)).items()))
