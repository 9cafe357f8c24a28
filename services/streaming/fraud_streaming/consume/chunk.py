"""Chunks: records that are scored and stored together, and the positions that they move."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fraud_adapters.kafka import Record


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records and, per partition, the stored position before and after them."""

    records: Sequence[Record]
    moves: Mapping[int, tuple[int | None, int]]
    read_at: float  # monotonic seconds


class Positions:
    """Per partition the position from which the next chunk starts; None if none is stored yet."""

    def __init__(self, stored: Mapping[int, int | None]) -> None:
        self._at = dict(stored)

    def add(self, stored: Mapping[int, int | None]) -> None:
        self._at.update(stored)

    def behind(self, reached: Mapping[int, int]) -> set[int]:
        """The partitions whose position lies before the offset reached."""
        return {p for p, offset in reached.items() if p in self._at and offset > (self._at[p] or 0)}

    def chunk(self, records: Sequence[Record], reached: Mapping[int, int]) -> Chunk:
        """The records as a chunk; `reached` is per partition the offset after the last one.

        A partition without records is moved too if only gaps lie before the offset reached.
        """
        partitions = {record.partition for record in records} | self.behind(reached)
        moves = {partition: (self._at[partition], reached[partition]) for partition in partitions}
        self._at.update({partition: new for partition, (_, new) in moves.items()})
        return Chunk(records, moves, time.monotonic())
