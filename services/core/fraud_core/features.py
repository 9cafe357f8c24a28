"""Computes the features of a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud_core.batch import Batch, Column
from fraud_core.contract import Contract, Feature


def feature_matrix(contract: Contract, batch: Batch) -> NDArray[np.float32]:
    """The features of `contract.features`, in their order.

    Returns:
        float32 of shape [n, number of features], C-contiguous. A missing optional number stays NaN, which
        the models treat as missing; a missing category equals none of its values, and is NaN as `category`.
    """
    matrix = np.empty((len(batch), len(contract.features)), dtype=np.float32)
    for position, feature in enumerate(contract.features):
        matrix[:, position] = _values(contract, feature, batch.columns[feature.of])
    return matrix


def _values(contract: Contract, feature: Feature, column: Column) -> Column:
    if feature.op == "category":
        codes = {value: code for code, value in enumerate(contract.field(feature.of).values)}
        return np.array([codes.get(value, np.nan) for value in column], dtype=np.float64)
    if feature.op == "equals":
        return np.asarray(column == feature.value)
    return column if feature.by is None else np.mod(column, feature.by)
