"""Splits the data by time: no model or threshold is fitted on data later than the data that judges it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.job.failures import LastingFailure


class SplitError(LastingFailure):
    """The data cannot be split; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Split:
    """The first rows of the parts after `train`, and the number of rows, of data ordered by event time.

    `train` fits the trees, `stopping` stops the training early, `calibration` fits the sigmoid and the
    thresholds, `test` judges the model. The rows from `gap` to `test` are in no part: when the first row of
    `test` happened, their labels were not known yet. Every other row is in exactly one part, and so is every
    moment.
    """

    stopping: int
    calibration: int
    gap: int
    test: int
    end: int

    def parts(self) -> Iterator[tuple[str, slice]]:
        yield "train", slice(0, self.stopping)
        yield "stopping", slice(self.stopping, self.calibration)
        yield "calibration", slice(self.calibration, self.gap)
        yield "test", slice(self.test, self.end)

    def part(self, name: str) -> slice:
        return dict(self.parts())[name]


def split_in_time(
    moments: NDArray[np.int64],
    labels: NDArray[np.int8],
    *,
    validation_share: float,
    test_share: float,
    gap: int = 0,
) -> Split:
    """Cut data ordered by time into train, stopping, calibration (together the validation) and test.

    One third of the validation part is for early stopping, two thirds are for calibration. Rows of the same
    moment stay together, in the later part.

    Args:
        moments: event times as numbers, ascending, shape [n].
        labels: 1 is fraud, shape [n].
        gap: how long it takes until a label is known, in the unit of `moments`. What is fitted ends that long
            before `test` begins.

    Raises:
        SplitError: a part lacks frauds or legitimate transactions.
    """
    _check_order(moments)
    rows = len(moments)
    train_share = 1 - test_share - validation_share
    test = _start_of_moment(moments, round(rows * (1 - test_share)))
    known = _known_before(moments, test, gap)
    # What the gap takes away is missing in all fitted parts alike.
    scale = known / test if test else 0.0
    stopping, calibration = (
        min(known, _start_of_moment(moments, round(rows * share * scale)))
        for share in (train_share, train_share + validation_share / 3)
    )
    split = Split(stopping, calibration, known, test, rows)
    for name, part in split.parts():
        _check_part(name, labels[part], rows, gapped=known < test)
    return split


def _check_order(moments: NDArray[np.int64]) -> None:
    if np.any(np.diff(moments) < 0):
        raise ValueError("the data is not ordered by time")


def _check_part(name: str, labels: NDArray[np.int8], rows: int, *, gapped: bool) -> None:
    frauds, size = int(labels.sum()), len(labels)
    if not 0 < frauds < size:
        hint = " (training.label_gap leaves rows out)" if gapped else ""
        raise SplitError(
            f"The data cannot be split in time: of {rows} transactions the part {name} has {size}, "
            f"{frauds} of them frauds; each part needs both kinds{hint}."
        )


def _known_before(moments: NDArray[np.int64], row: int, gap: int) -> int:
    """How many of the first rows have a label that was known when `row` happened."""
    if row >= len(moments):
        return row
    return min(row, int(np.searchsorted(moments, moments[row] - gap, side="right")))


def _start_of_moment(moments: NDArray[np.int64], row: int) -> int:
    if row >= len(moments):
        return len(moments)
    return int(np.searchsorted(moments, moments[row], side="left"))
