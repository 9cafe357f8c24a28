"""Splits the data by time: no model or threshold is fitted on data later than the data that judges it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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


@dataclass(frozen=True, slots=True)
class Block:
    """One step of a prequential validation: what may be fitted, and the later rows that judge it."""

    fit: slice
    judge: slice


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


def prequential_blocks(
    moments: NDArray[np.int64], labels: NDArray[np.int8], *, part: slice, blocks: int, gap: int
) -> list[Block]:
    """Cut a part into blocks; each one judges what was fitted on rows whose labels were known before it.

    Dawid (1984), Present position and potential developments: the prequential approach.

    Args:
        moments, labels: of all rows, as for `split_in_time`.
        part: the rows that judge; all rows before them may be fitted.
        blocks: how many; they have as equal numbers of rows as whole moments allow.
        gap: as for `split_in_time`.

    Raises:
        SplitError: a block, or what may be fitted for it, lacks frauds or legitimate transactions.
    """
    _check_order(moments)
    bounds = [
        part.start,
        *(
            _start_of_moment(moments, round(part.start + (part.stop - part.start) * number / blocks))
            for number in range(1, blocks)
        ),
        part.stop,
    ]
    result = []
    for number, (start, stop) in enumerate(pairwise(bounds), 1):
        known = _known_before(moments, start, gap)
        for name, rows in (
            (f"before block {number}", slice(0, known)),
            (f"in block {number}", slice(start, stop)),
        ):
            _check_part(name, labels[rows], len(moments), gapped=known < start)
        result.append(Block(slice(0, known), slice(start, stop)))
    return result


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
