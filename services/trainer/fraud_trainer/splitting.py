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
    thresholds, `test` judges the model. Each row and each moment is in exactly one part.
    """

    stopping: int
    calibration: int
    test: int
    end: int

    def parts(self) -> Iterator[tuple[str, slice]]:
        yield "train", slice(0, self.stopping)
        yield "stopping", slice(self.stopping, self.calibration)
        yield "calibration", slice(self.calibration, self.test)
        yield "test", slice(self.test, self.end)

    def part(self, name: str) -> slice:
        return dict(self.parts())[name]


def split_in_time(
    moments: NDArray[np.int64], labels: NDArray[np.int8], *, validation_share: float, test_share: float
) -> Split:
    """Cut data ordered by time into train, stopping, calibration (together the validation) and test.

    One third of the validation part is for early stopping, two thirds are for calibration. Rows of the same
    moment stay together, in the later part.

    Args:
        moments: event times as numbers, ascending, shape [n].
        labels: 1 is fraud, shape [n].

    Raises:
        SplitError: a part lacks frauds or legitimate transactions.
    """
    if np.any(np.diff(moments) < 0):
        raise ValueError("the data is not ordered by time")
    rows = len(moments)
    train_share = 1 - test_share - validation_share
    shares = (train_share, train_share + validation_share / 3, 1 - test_share)
    stopping, calibration, test = (_start_of_moment(moments, round(rows * share)) for share in shares)
    split = Split(stopping, calibration, test, rows)
    for name, part in split.parts():
        frauds, size = int(labels[part].sum()), len(labels[part])
        if not 0 < frauds < size:
            raise SplitError(
                f"The data cannot be split in time: of {rows} transactions the part {name} has {size}, "
                f"{frauds} of them frauds; each part needs both kinds."
            )
    return split


def _start_of_moment(moments: NDArray[np.int64], row: int) -> int:
    if row >= len(moments):
        return len(moments)
    return int(np.searchsorted(moments, moments[row], side="left"))
