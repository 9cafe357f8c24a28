"""The features of a run as the steps after `features` read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.job_results.trainer import TablePart
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore.run_store import Step
from fraud_core.first_strikes import first_strikes
from fraud_trainer.engines.tables import parts_of
from fraud_trainer.engines.tasks import (
    FEATURES,
    LABEL,
    TIME,
    Outline,
    RowsTask,
    TrainingRows,
    fraud_cards,
    outline_part,
    rows_part,
    to_examples,
)
from fraud_trainer.load.data_checks import copied_rows
from fraud_trainer.run_context import RunContext
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.splitting import Split

# What one process takes of a table that lies in several parts: every second, third, … row if there are more.
MOST_ROWS: Final = 1_000_000


@dataclass(frozen=True)
class FeatureTable:
    """Rows in order of time, in one part, which this process reads whole, or in several."""

    context: RunContext
    parts: list[TablePart]

    @classmethod
    def of(cls, context: RunContext, step: Step) -> FeatureTable:
        """The features that a step stored.

        Raises:
            LastingFailure: they are another contract's.
        """
        if step["features"] != list(context.contract.feature_names):
            raise LastingFailure(
                f"The run's features are not those of {context.contract.schema_id}: load again."
            )
        return cls(context, parts_of(step, FEATURES))

    def __len__(self) -> int:
        if self._whole is not None:
            return len(self._whole[0])
        return sum(part["rows"] for part in self.parts)

    @property
    def moments(self) -> NDArray[np.int64]:
        """Event times in microseconds, ascending, [n]."""
        if self._whole is not None:
            return self._whole[0]
        return np.concatenate([outline.moments for outline in self._outlines])

    @property
    def labels(self) -> NDArray[np.int8]:
        """1 is fraud, [n]."""
        if self._whole is not None:
            return self._whole[1].labels
        return np.concatenate([outline.labels for outline in self._outlines])

    @property
    def copied_share(self) -> float:
        """The share of rows that are copies; rows of one moment are in one part."""
        if self._whole is not None:
            return copied_rows(self._whole[0], self._whole[1].features) / len(self)
        return sum(outline.copied for outline in self._outlines) / len(self)

    def rows(self, rows: slice, most: int = MOST_ROWS) -> Examples:
        """Some rows; of several parts at most `most`, evenly spaced."""
        if self._whole is not None:
            return self._whole[1].part(rows)
        step = max(1, -(-(rows.stop - rows.start) // most))
        joined = Examples.joined(
            self.context.engine.map(self.context, rows_part, list(self._tasks(rows, step)))
        )
        strikes = self._first_strikes
        return joined if strikes is None else replace(joined, first_strikes=strikes[rows][::step])

    def everything(self) -> Examples:
        """All rows, however many they are."""
        return self.rows(slice(0, len(self)), len(self))

    def training_rows(self, split: Split) -> TrainingRows:
        """Where the rows of the first two parts of a split are."""
        train, stopping = split.part("train"), split.part("stopping")
        return TrainingRows(
            self.context,
            tuple(self._tasks(train, 1)),
            tuple(self._tasks(stopping, 1)),
            self.labels[train],
        )

    def _tasks(self, rows: slice, step: int) -> Iterator[RowsTask]:
        before = 0
        for part in self.parts:
            # The first row of the part that is a whole number of steps from the first row of all.
            start = max(rows.start - before, 0)
            start += -(before + start - rows.start) % step
            stop = min(rows.stop - before, part["rows"])
            if start < stop:
                yield RowsTask(self.context.contract.feature_names, part, start, stop, step)
            before += part["rows"]

    @cached_property
    def _whole(self) -> tuple[NDArray[np.int64], Examples] | None:
        if len(self.parts) > 1:
            return None
        [part] = self.parts
        table = self.context.run.get_table(part["name"], part["digest"])
        labels = table.column(LABEL)
        if labels.null_count:
            raise LastingFailure(
                f"{labels.null_count} of {len(labels)} transactions have no label: load them again."
            )
        rows = to_examples(self.context.contract.feature_names, table)
        strikes = _strikes(rows.labels, fraud_cards(table))
        return table.column(TIME).to_numpy(), replace(rows, first_strikes=strikes)

    @cached_property
    def _first_strikes(self) -> NDArray[np.bool_] | None:
        """Which rows are the first fraud of their card, over all parts, [n]; None if there are no cards."""
        cards: list[object] = []
        for outline in self._outlines:
            if outline.fraud_cards is None:
                return None
            cards += outline.fraud_cards
        return _strikes(self.labels, tuple(cards))

    @cached_property
    def _outlines(self) -> list[Outline]:
        names = self.context.contract.feature_names
        tasks = [RowsTask(names, part, 0, part["rows"]) for part in self.parts]
        return self.context.engine.map(self.context, outline_part, tasks)


def _strikes(labels: NDArray[np.int8], cards: tuple[object, ...] | None) -> NDArray[np.bool_] | None:
    """Which rows are the first fraud of their card, [n]; `cards` are those of the frauds alone."""
    if cards is None:
        return None
    strikes = np.zeros(len(labels), dtype=np.bool_)
    strikes[labels == 1] = first_strikes(cards, np.ones(len(cards), dtype=np.bool_))
    return strikes
