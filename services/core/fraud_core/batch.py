"""A set of transactions, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Transactions of one contract, already valid and quantised.

    Attributes:
        ids: transaction ids, n of them.
        event_times: aware datetimes in UTC, n of them.
        columns: by field name, arrays of shape [n]: float64 for numeric fields (the double nearest to
            the quantised decimal, NaN where an optional one is missing), object arrays of `str | None`
            for others. The label's column is there only if a record brought it.
    """

    ids: list[str]
    event_times: list[datetime]
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Sequence[int] | slice) -> Batch:
        """The rows at `index`, in that order."""
        rows = range(len(self.ids))[index] if isinstance(index, slice) else index
        picker = index if isinstance(index, slice) else np.asarray(index, dtype=np.intp)
        return Batch(
            [self.ids[row] for row in rows],
            [self.event_times[row] for row in rows],
            {name: column[picker] for name, column in self.columns.items()},
        )

    @staticmethod
    def concat(batches: Sequence[Batch]) -> Batch:
        """All rows of batches of the same contract, one after the other.

        Raises:
            ValueError: no batch was given, or their columns differ.
        """
        if not batches:
            raise ValueError("there is no batch to concatenate")
        names = list(batches[0].columns)
        if any(set(batch.columns) != set(names) for batch in batches):
            raise ValueError("the batches have different columns")
        return Batch(
            [identifier for batch in batches for identifier in batch.ids],
            [moment for batch in batches for moment in batch.event_times],
            {name: np.concatenate([batch.columns[name] for batch in batches]) for name in names},
        )
