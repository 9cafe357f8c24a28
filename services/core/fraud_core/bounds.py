"""Checks whether numbers are within the bounds of their fields, vectorised over rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fraud_core.fields import ContractField
from fraud_core.quantise import quantise


class NumericBounds:
    """The bounds and scales of k numeric fields; build it once.

    Args:
        fields: numeric fields of a contract, in the order of the columns.
    """

    def __init__(self, fields: Sequence[ContractField]) -> None:
        self.fields = tuple(fields)
        # Open bounds as closed ones: the numbers next to them.
        above, below = np.array([-f.limit for f in fields]), np.array([f.top for f in fields])
        least = np.array([-np.inf if f.min is None else f.min for f in fields])
        most = np.array([np.inf if f.max is None else f.max for f in fields])
        self._low = np.maximum(least, np.nextafter(above, np.inf))
        self._high = np.minimum(most, np.nextafter(below, -np.inf))
        self._optional = np.array([not f.required for f in fields], dtype=bool)
        self._scales = np.array([f.scale for f in fields], dtype=np.int64)

    def quantised(self, raw: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Quantise numbers and find those that break a bound, before or after.

        Args:
            raw: values, shape [n, k]; NaN stands for a missing optional value.

        Returns:
            The quantised values, shape [n, k] in Fortran order, and which of them are out of range, [n, k];
            where one is, its quantised value is undefined.
        """
        inside = self._inside(raw)
        values = quantise(raw if inside.all() else np.where(inside, raw, 0.0), self._scales)
        # Rounding may move a value across a bound.
        inside &= self._inside(values)
        return np.asfortranarray(values), ~inside

    def _inside(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (values >= self._low) & (values <= self._high)
        if not inside.all():
            inside |= np.isnan(values) & self._optional
        return inside
