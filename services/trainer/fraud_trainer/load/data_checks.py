"""Refuses data that no honest model can come from, each kind with one sentence."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.job.failures import LastingFailure
from fraud_core.contract import Contract
from fraud_trainer.train.fitting import Examples

FEWEST_FRAUDS: Final = 2  # one to learn from and one to judge with
MOST_COPIES: Final = 0.5
_SEED: Final = 20_260_301


class DataRefused(LastingFailure):
    """The data cannot be trained on; the message is one sentence."""


def refuse_unusable(contract: Contract, moments: NDArray[np.int64], data: Examples) -> None:
    """Check the n examples, with event times [n]; see `refuse_labels` and `refuse_features`."""
    refuse_labels(contract, data.labels)
    refuse_features(contract, data.features, copied_rows(moments, data.features) / len(moments))


def refuse_labels(contract: Contract, labels: NDArray[np.int8]) -> None:
    """Check the labels [n] before anything is fitted.

    Raises:
        DataRefused: there are no or too few frauds.
    """
    frauds, rows = int(labels.sum()), len(labels)
    if frauds < FEWEST_FRAUDS:
        counted = "none of them a fraud" if not frauds else "only one of them a fraud"
        raise DataRefused(
            f"There is nothing to learn from: {rows} labelled transactions of {contract.schema_id}, "
            f"{counted}."
        )


def refuse_features(contract: Contract, features: NDArray[np.float32], copied_share: float) -> None:
    """Check features [n, k], and the share of rows that are copies of others.

    Raises:
        DataRefused: a feature is constant, or most rows are copies.
    """
    rows = len(features)
    if constant := [contract.feature_names[k] for k in np.flatnonzero(constant_columns(features))]:
        raise DataRefused(
            f"{', '.join(constant)}: the same value in all {rows} transactions, so that any other value "
            "later would be foreign to the model: load data in which it varies, or take it out of the "
            "contract's features."
        )
    if copied_share > MOST_COPIES:
        raise DataRefused(
            f"{copied_share:.0%} of {rows} transactions have the time and the features of another one: they "
            "were loaded more than once, and every figure would count them double."
        )


def constant_columns(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which columns hold one value alone, or none at all; float32 [n, k] → [k]."""
    first = features[0]
    return np.array(
        [
            bool(np.all((column == value) | (np.isnan(column) & np.isnan(value))))
            for column, value in zip(features.T, first, strict=True)
        ]
    )


def copied_rows(moments: NDArray[np.int64], features: NDArray[np.float32]) -> int:
    """How many rows there are whose moment and features equal those of another row.

    Rows are compared by a hash of 64 bits, a linear combination with random odd factors.
    """
    source = np.random.default_rng(_SEED)
    factors = source.integers(1, 2**63, size=features.shape[1] + 1, dtype=np.uint64) | np.uint64(1)
    hashes = moments.astype(np.uint64) * factors[-1]
    for column, factor in zip(features.T, factors, strict=False):
        # Adding 0 makes -0.0 equal to 0.0, as comparison does.
        bits = (np.ascontiguousarray(column) + np.float32(0)).view(np.uint32).astype(np.uint64)
        hashes += bits * factor
    _, counts = np.unique(hashes, return_counts=True)
    return int(counts[counts > 1].sum())
