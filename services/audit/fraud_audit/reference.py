"""What a case is compared with: the values of other transactions, and those about which the truth is known.

Both are read in the background every few minutes, so that a case's page does not wait for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.postgres import case_evidence
from fraud_adapters.postgres.session import Cursor
from fraud_core.contract import Contract

POPULATION_ROWS: Final = 5000
LABELLED_ROWS: Final = 2000
REFRESH_SECONDS: Final = 300.0
_MIN_ROWS: Final = 100
UNUSUAL: Final = 0.005  # of the others lie further out, on either side


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A field of a case.

    Attributes:
        position: the share of other transactions with a smaller value, in percent; None if it is not known.
        is_unusual: whether hardly any others lie further out.
    """

    name: str
    value: Any
    position: float | None
    is_unusual: bool
    median: float | None


class Reference:
    """The latest state; replaced as a whole, so that readers need no lock."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._population: Mapping[str, NDArray[np.float64]] = {}
        self._ids: list[str] = []
        self._vectors: NDArray[np.float64] = np.empty((0, len(contract.feature_names)))
        self._scale: NDArray[np.float64] = np.ones(len(contract.feature_names))

    def refresh(self, cursor: Cursor) -> None:
        """Read everything anew."""
        population = case_evidence.population(cursor, self._contract, POPULATION_ROWS)
        ids, vectors = case_evidence.labelled_vectors(cursor, self._contract, LABELLED_ROWS)
        known = np.nan_to_num(vectors)
        spread = known.std(axis=0) if len(ids) else np.ones(known.shape[1])
        self._population = population
        self._ids, self._vectors, self._scale = ids, known, np.where(spread > 0, spread, 1.0)

    def fields(self, values: Mapping[str, Any]) -> list[FieldValue]:
        """The fields of a transaction, the unusual ones first, then in the contract's order."""
        compared = [self._field(name, value) for name, value in values.items()]
        return sorted(compared, key=lambda field: not field.is_unusual)

    def similar(self, transaction_id: str, vector: NDArray[np.float64], limit: int) -> Sequence[str]:
        """The labelled transactions whose features are nearest, in units of each feature's spread."""
        if len(self._ids) == 0 or vector.shape != self._scale.shape:
            return []
        gaps = (self._vectors - np.nan_to_num(vector)) / self._scale
        order = np.argsort((gaps**2).sum(axis=1))[: limit + 1]
        return [self._ids[row] for row in order if self._ids[row] != transaction_id][:limit]

    def _field(self, name: str, value: Any) -> FieldValue:
        others = self._population.get(name)
        if others is None or len(others) < _MIN_ROWS or not isinstance(value, float):
            return FieldValue(name, value, None, False, None)
        below, not_above = np.searchsorted(others, value), np.searchsorted(others, value, side="right")
        low, high = not_above / len(others), 1 - below / len(others)
        position = (below + not_above) / 2 / len(others)
        median = float(np.median(others))
        return FieldValue(name, value, 100 * position, bool(min(low, high) < UNUSUAL), median)
