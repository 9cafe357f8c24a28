"""Examples from a file of labelled transactions (CSV or Parquet), checked by the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud_adapters.postgres import examples
from fraud_adapters.transaction_files import BadFile, TransactionFile
from fraud_core.batch import Batch
from fraud_core.contract import Contract

FILE: Final = "file"  # the source of transactions and labels that came from a file


def read_file(path: Path, contract: Contract, start: datetime | None) -> pa.Table:
    """The labelled transactions of a file, ordered by event time; columns as `examples.read_examples` gives.

    Event times are those of the column `event_time` if the file has it. Otherwise the first row happened at
    `start`, and the field with the role `clock` counts the seconds from there.

    Raises:
        BadFile: the file cannot be read, a row breaks the contract or has no label, or no event time can be
            derived; the row is named.
    """
    file = TransactionFile.open(path, contract, event_time=examples.TIME)
    label = contract.label_field
    if label is None or label.name not in file.layout.columns:
        wanted = "a label" if label is None else f"a column {label.name}"
        raise BadFile(f"{path.name}: training needs {wanted} for each row.")
    tables = [
        examples.from_batch(contract, batch, _labels(path, batch, label.name, row), FILE, [FILE] * len(batch))
        for row, batch in _timed(file, start)
    ]
    if not tables:
        raise BadFile(f"{path.name}: holds no transaction.")
    return pa.concat_tables(tables).sort_by([(examples.TIME, "ascending"), (examples.ID, "ascending")])


def _timed(file: TransactionFile, start: datetime | None) -> Iterator[tuple[int, Batch]]:
    """The file's batches with their event times, and the number of rows before each."""
    clock, row = file.contract.with_role("clock"), 0
    if file.layout.event_time is None and (clock is None or start is None):
        also = "" if clock is None else f", or --file-start and {clock.name}"
        raise BadFile(
            f"{file.path.name}: when its transactions happened is not known: "
            f"it needs a column event_time{also}."
        )
    first: float | None = None
    for batch in file.batches():
        if file.layout.event_time is not None or clock is None or start is None:
            yield row, batch
        else:
            seconds = batch.columns[clock.name]
            first = float(seconds[0]) if first is None else first
            moments = [start + timedelta(seconds=second - first) for second in seconds.tolist()]
            yield row, replace(batch, event_times=moments)
        row += len(batch)


def _labels(path: Path, batch: Batch, name: str, before: int) -> NDArray[np.int8]:
    labels = batch.columns.get(name, np.full(len(batch), np.nan))
    missing = np.nonzero(np.isnan(labels))[0]
    if missing.size:
        raise BadFile(f"{path.name}: row {before + int(missing[0]) + 1}: {name}: has no label.")
    return labels.astype(np.int8)
