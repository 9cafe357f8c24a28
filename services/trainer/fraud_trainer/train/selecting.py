"""Drops columns by their correlation with others, and by chi-square and mutual information with the label."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.candidates import Selection
from fraud_adapters.job.failures import LastingFailure

_BINS: Final = 10


def dropped_columns(
    selection: Selection, matrix: NDArray[np.float32], labels: NDArray[np.int8]
) -> dict[int, str]:
    """The positions of columns to drop, with the reason; from training rows [n, k] and labels [n].

    Raises:
        LastingFailure: no column would be left.
    """
    dropped: dict[int, str] = {}
    if selection.max_chi_square_p is not None or selection.min_mutual_information is not None:
        for position in range(matrix.shape[1]):
            if reason := _uninformative(selection, matrix[:, position], labels):
                dropped[position] = reason
    if selection.max_correlation is not None:
        dropped |= _correlated(selection.max_correlation, matrix, dropped)
    if len(dropped) == matrix.shape[1]:
        raise LastingFailure("training.selection drops every column: loosen its bounds.")
    return dropped


def contingency(column: NDArray[np.float32], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Counts by decile of the column (missing values apart) and label, [bins, 2]; empty bins are left out."""
    missing = np.isnan(column)
    deciles = np.linspace(0, 1, _BINS + 1)[1:-1]
    edges = np.empty(0) if missing.all() else np.unique(np.quantile(column[~missing], deciles))
    bins = np.where(missing, len(edges) + 1, np.searchsorted(edges, column, side="left"))
    counts: NDArray[np.float64] = np.column_stack(
        [np.bincount(bins[labels == label], minlength=len(edges) + 2) for label in (0, 1)]
    ).astype(np.float64)
    filled: NDArray[np.float64] = counts[counts.sum(axis=1) > 0]
    return filled


def mutual_information(counts: NDArray[np.float64]) -> float:
    """Of the row and the column of a table of counts, in nats."""
    joint = counts / counts.sum()
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float(np.sum(joint[filled] * np.log(joint[filled] / product[filled])))


def _uninformative(selection: Selection, column: NDArray[np.float32], labels: NDArray[np.int8]) -> str | None:
    counts = contingency(column, labels)
    if len(counts) < 2:
        return "constant"
    if selection.max_chi_square_p is not None:
        from scipy.stats import chi2_contingency  # noqa: PLC0415 - takes a second

        p = float(chi2_contingency(counts, correction=False).pvalue)
        if p > selection.max_chi_square_p:
            return f"chi-square p {p:.3g}"
    if selection.min_mutual_information is not None:
        shared = mutual_information(counts)
        if shared < selection.min_mutual_information:
            return f"mutual information {shared:.3g}"
    return None


def _correlated(bound: float, matrix: NDArray[np.float32], dropped: dict[int, str]) -> dict[int, str]:
    """Of two columns that correlate more than `bound`, the later one; missing values count as the mean."""
    present = ~np.isnan(matrix)
    values = np.where(present, matrix, 0).astype(np.float64)
    values = np.where(present, values - values.sum(axis=0) / np.maximum(present.sum(axis=0), 1), 0)
    spread = np.sqrt((values**2).sum(axis=0))
    values /= np.where(spread > 0, spread, 1)
    correlation = np.abs(values.T @ values)
    found: dict[int, str] = {}
    for later in range(matrix.shape[1]):
        if later in dropped:
            continue
        for earlier in range(later):
            if earlier not in dropped and earlier not in found and correlation[earlier, later] > bound:
                found[later] = f"correlation {correlation[earlier, later]:.3f} with column {earlier}"
                break
    return found
