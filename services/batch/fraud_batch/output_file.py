"""Scores as one CSV or Parquet file, written part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from fraud_adapters.columnar.arrays import flags, numbers, strings
from fraud_adapters.transaction_tables import RejectedRow
from fraud_batch.chunks import ScoredChunk
from fraud_core.decision import BY_RANK

# A spreadsheet runs a text cell as a formula if it starts with one of these (OWASP, CSV injection).
_FORMULA: Final = r"^[=+\-@\t\r]"
_DECISIONS: Final = strings([str(one) for one in BY_RANK])
SCORES_SCHEMA: Final = pa.schema(
    [
        ("line", pa.int64()),
        ("transaction_id", pa.string()),
        ("score", pa.float64()),
        ("is_fraud_predicted", pa.bool_()),
        ("decision", pa.string()),
        ("model_version", pa.string()),
    ]
)
# Of other columns nearly all values differ, and looking for repetitions costs more than writing them.
REPEATED: Final = ["decision", "model_version", "reason", "detail"]
REJECTS_SCHEMA: Final = pa.schema(
    [("line", pa.int64()), ("transaction_id", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def scores_table(chunk: ScoredChunk, version: str) -> pa.Table:
    """The valid rows of a chunk with their scores, as the output shows them."""
    columns = [
        numbers(pa.int64(), chunk.lines),
        chunk.ids,
        numbers(pa.float64(), chunk.scores),
        flags(chunk.ranks > 0),
        _DECISIONS.take(numbers(pa.int8(), chunk.ranks)),
        pa.repeat(version, len(chunk.ids)),
    ]
    return pa.table(columns, schema=SCORES_SCHEMA)


def rejects_table(rejected: Iterable[RejectedRow]) -> pa.Table:
    """Refused rows with their lines and reasons."""
    rows = list(rejected)
    columns = [
        numbers(pa.int64(), np.array([row.line for row in rows], dtype=np.int64)),
        strings([row.transaction_id for row in rows]),
        strings([str(row.reason) for row in rows]),
        strings([row.detail for row in rows]),
    ]
    return pa.table(columns, schema=REJECTS_SCHEMA)


class OutputFile:
    """A file that tables are written to one after the other; it gets its name when it is whole.

    Text of a CSV file that a spreadsheet would run as a formula gets an apostrophe before it.
    """

    def __init__(self, path: Path, partial: Path, writer: _Writer) -> None:
        self.path = path
        self._partial = partial
        self._writer = writer

    @classmethod
    @contextmanager
    def begun(cls, path: Path, schema: pa.Schema) -> Iterator[Self]:
        """A file of the format that its suffix says; unless it is finished, nothing of it is left."""
        partial = path.with_name(f".{path.name}.partial")
        try:
            with closing(_writer(partial, schema, path.suffix.lower())) as writer:
                yield cls(path, partial, writer)
        finally:
            partial.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def finish(self) -> str:
        """Give the file its name; returns its SHA-256, in hex."""
        self._writer.close()
        with self._partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._partial.replace(self.path)
        return digest


def write_file(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write a file of these tables."""
    with OutputFile.begun(path, schema) as file:
        for table in tables:
            file.write(table)
        file.finish()


def safe_for_spreadsheets(table: pa.Table) -> pa.Table:
    """Text cells that start as a formula does get an apostrophe before them; numbers stay as they are."""
    for position, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(position)
            dangerous = pc.match_substring_regex(column, _FORMULA)
            if pc.any(dangerous).as_py():
                quoted = pc.binary_join_element_wise("'", column, "")
                table = table.set_column(position, field, pc.if_else(dangerous, quoted, column))
    return table


class _SafeCsv:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = csv.CSVWriter(str(path), schema)

    def write_table(self, table: pa.Table) -> None:
        self._file.write_table(safe_for_spreadsheets(table))

    def close(self) -> None:
        self._file.close()


def _writer(path: Path, schema: pa.Schema, suffix: str) -> _Writer:
    """It may be closed twice."""
    if suffix == ".csv":
        return _SafeCsv(path, schema)
    writer: _Writer = pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=REPEATED)
    return writer
