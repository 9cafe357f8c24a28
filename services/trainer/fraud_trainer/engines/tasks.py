"""The pieces of work that an engine spreads over its workers; each takes what it can access, and its part.

They hand over names, digests and counts. Rows go from Postgres or the object store to a worker and back to
the object store.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from config.job_results.trainer import TablePart
from fraud_adapters.postgres import examples
from fraud_adapters.postgres.examples import Interval
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_trainer.engines.tables import Access, ExamplesPart, store_examples
from fraud_trainer.load.data_checks import copied_rows
from fraud_trainer.train.fitting import Examples

FEATURES: Final = "features.parquet"
TIME: Final = "_time"
LABEL: Final = "_label"
AMOUNT: Final = "_amount"
CARD: Final = "_card"


@dataclass(frozen=True, slots=True)
class LoadTask:
    """The examples of an interval, to be stored under a name."""

    contract: Contract
    as_of: datetime
    interval: Interval
    name: str


@dataclass(frozen=True, slots=True)
class FeaturesTask:
    """A part of the examples, whose features are stored under a name."""

    contract: Contract
    examples: TablePart
    name: str


@dataclass(frozen=True, slots=True)
class FeaturesPart:
    """A stored part of the features, and how many values are missing in it."""

    part: TablePart
    missing: int


@dataclass(frozen=True, slots=True)
class Outline:
    """Moments in microseconds [n] and labels [n] of a part, and how many of its rows are copies.

    `fraud_cards` are the cards of its frauds in order; None if the contract has no card.
    """

    moments: NDArray[np.int64]
    labels: NDArray[np.int8]
    copied: int
    fraud_cards: tuple[object, ...] | None = None


@dataclass(frozen=True, slots=True)
class RowsTask:
    """Rows of a part of the features: from `start` on, before `stop`, each `step`-th of them."""

    features: tuple[str, ...]
    part: TablePart
    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Where the rows are that models are fitted on, in order of time; `labels` [n] are those of `train`."""

    access: Access
    train: tuple[RowsTask, ...]
    stopping: tuple[RowsTask, ...]
    labels: NDArray[np.int8]


def load_part(access: Access, task: LoadTask) -> ExamplesPart:
    """Read an interval's examples from Postgres and store them."""
    with closing(access.database()) as connection:
        table = examples.read_examples(connection, task.contract, task.as_of, task.interval)
    return store_examples(access, task.name, table)


def features_part(access: Access, task: FeaturesTask) -> FeaturesPart:
    """Compute the features of a part of the examples, in the same order, and store them."""
    contract = task.contract
    table = access.run.get_table(task.examples["name"], task.examples["digest"])
    matrix = feature_matrix(contract, examples.to_batch(contract, table))
    columns = {name: matrix[:, position] for position, name in enumerate(contract.feature_names)}
    money = contract.with_role("amount")
    amounts = {} if money is None else {AMOUNT: table.column(money.name)}
    card = contract.with_role("card")
    cards = {} if card is None else {CARD: table.column(card.name)}
    times = table.column(examples.TIME).cast(pa.int64())
    stored = pa.table({TIME: times, LABEL: table.column(examples.LABEL), **amounts, **cards, **columns})
    digest = access.run.put_table(task.name, stored)
    part = TablePart(name=task.name, digest=digest, rows=stored.num_rows)
    return FeaturesPart(part, int(np.isnan(matrix).sum()))


def outline_part(access: Access, task: RowsTask) -> Outline:
    """What the split and the checks need of all rows."""
    table = access.run.get_table(task.part["name"], task.part["digest"])
    moments = table.column(TIME).to_numpy()
    rows = to_examples(task.features, table)
    return Outline(moments, rows.labels, copied_rows(moments, rows.features), fraud_cards(table))


def rows_part(access: Access, task: RowsTask) -> Examples:
    """Some rows of a part."""
    table = access.run.get_table(task.part["name"], task.part["digest"])
    return to_examples(task.features, table).part(slice(task.start, task.stop, task.step))


def fraud_cards(table: pa.Table) -> tuple[object, ...] | None:
    """The cards of the frauds of a table of features, in order; None if it has no cards."""
    if CARD not in table.column_names:
        return None
    return tuple(table.column(CARD).filter(pc.equal(table.column(LABEL), 1)).to_pylist())


def to_examples(features: tuple[str, ...], table: pa.Table) -> Examples:
    """The rows of a table of features."""
    matrix = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for position, name in enumerate(features):
        matrix[:, position] = table.column(name).to_numpy()
    amounts = None
    if AMOUNT in table.column_names:
        # A missing amount counts as zero.
        amounts = np.nan_to_num(table.column(AMOUNT).to_numpy().astype(np.float64))
    return Examples(matrix, table.column(LABEL).to_numpy(), amounts)
