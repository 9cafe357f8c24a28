"""What happens to features before they reach a model: fitted in training, kept as data in the manifest.

Training, the API and batches all call `Preparer.apply`, so that a model sees the same numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Features = NDArray[np.float32]


class PreparedColumn(BaseModel):
    """One input of a model, computed from one feature; all numbers are float32.

    `value` is the feature itself: `fill` where it is missing, then within `low` and `high`. `missing` is 1
    where it is missing and 0 elsewhere. Of a category's code, `equals` is 1 where it is `code` and 0
    elsewhere, and `lookup` is the entry of `table` at that position, `otherwise` where it is missing or has
    no entry. Last comes (value − center) / scale.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    feature: str
    kind: Literal["value", "missing", "equals", "lookup"] = "value"
    fill: float | None = None
    low: float | None = None
    high: float | None = None
    code: int | None = None
    table: tuple[float | None, ...] | None = None
    otherwise: float | None = None
    center: float | None = None
    scale: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> PreparedColumn:
        if self.kind == "equals" and self.code is None:
            raise ValueError(f"column {self.name}: equals needs a code")
        if self.kind == "lookup" and (self.table is None or self.otherwise is None):
            raise ValueError(f"column {self.name}: lookup needs a table and a value for what is not in it")
        if (self.center is None) != (self.scale is None):
            raise ValueError(f"column {self.name}: center and scale belong together")
        return self

    @property
    def plain(self) -> bool:
        """Whether the column is its feature, unchanged."""
        changed = (self.fill, self.low, self.high, self.center)
        return self.kind == "value" and all(value is None for value in changed)


class Preparation(BaseModel):
    """The inputs of a model, in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[PreparedColumn, ...] = Field(min_length=1)

    def is_identity(self, features: Sequence[str]) -> bool:
        """Whether it leaves exactly these features as they are."""
        names = [column.feature for column in self.columns]
        return names == list(features) and all(column.plain for column in self.columns)

    def unknown_feature(self, features: Sequence[str]) -> str | None:
        """A feature it needs that is not among these, or None."""
        return next((column.feature for column in self.columns if column.feature not in features), None)

    @staticmethod
    def joined(parts: Sequence[Preparation]) -> Preparation:
        """The columns of all parts, one after the other."""
        return Preparation(columns=tuple(column for part in parts for column in part.columns))


class Preparer:
    """A preparation, compiled for features in a given order; safe to use from several threads.

    Raises:
        ValueError: the preparation needs a feature that is not among `features`.
    """

    def __init__(self, preparation: Preparation, features: Sequence[str]) -> None:
        if (name := preparation.unknown_feature(features)) is not None:
            raise ValueError(f"the preparation needs {name}, which is not a feature")
        columns = preparation.columns
        self.width = len(columns)
        self._source = np.array([features.index(column.feature) for column in columns], dtype=np.intp)
        self._fill = _optional([column.fill for column in columns], np.nan)
        self._low = _optional([column.low for column in columns], -np.inf)
        self._high = _optional([column.high for column in columns], np.inf)
        self._center = _optional([column.center for column in columns], 0.0)
        self._scale = _optional([column.scale for column in columns], 1.0)
        self._special = [
            (position, _function(column)) for position, column in enumerate(columns) if column.kind != "value"
        ]

    def apply(self, features: Features) -> Features:
        """float32 [n, number of features] → float32 [n, number of columns]; rows do not affect each other."""
        result: Features = features.take(self._source, axis=1)
        # Computed before anything is filled in, from the features as they came.
        special = [(position, function(result[:, position])) for position, function in self._special]
        if self._fill is not None:
            result = np.where(np.isnan(result), self._fill, result)
        if self._low is not None:
            result = np.maximum(result, self._low)
        if self._high is not None:
            result = np.minimum(result, self._high)
        for position, values in special:
            result[:, position] = values
        if self._center is not None and self._scale is not None:
            result = (result - self._center) / self._scale
        return np.ascontiguousarray(result, dtype=np.float32)


def _optional(values: Sequence[float | None], default: float) -> Features | None:
    """The values as float32, or None where every one of them is absent."""
    if all(value is None for value in values):
        return None
    return np.array([default if value is None else value for value in values], dtype=np.float32)


def _function(column: PreparedColumn) -> Callable[[Features], Features]:
    """The function of a column that is not of the kind `value`: float32 [n] → float32 [n]."""
    if column.kind == "missing":
        return lambda values: np.isnan(values).astype(np.float32)
    if column.kind == "equals":
        return lambda values: (values == column.code).astype(np.float32)
    assert column.table is not None and column.otherwise is not None
    entries = [column.otherwise if entry is None else entry for entry in column.table]
    table = np.array([*entries, column.otherwise], dtype=np.float32)

    def look_up(values: Features) -> Features:
        known = (values >= 0) & (values < len(table) - 1)  # False for NaN
        return np.asarray(table[np.where(known, values, len(table) - 1).astype(np.intp)])

    return look_up
