"""The rows of a CSV or Parquet file, chunk by chunk, in memory that does not grow with the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.transaction_files import UNREADABLE, BadFile, column_names, unreadable
from fraud_adapters.transaction_tables import RejectedRow, TableColumns
from fraud_batch.chunks import Chunk, Mark
from fraud_core.contract import Contract
from fraud_core.record_model import Reason

SUFFIXES: Final = (".csv", ".parquet")
_PAGE_BYTES: Final = 1024 * 1024  # of a Parquet column that are read at a time
_LEAST_BYTES: Final = 65_536  # of a CSV file that are read at a time; a header must fit
_ROW_BYTES: Final = 256  # of a CSV file, about; a chunk is that many times the rows


@dataclass(frozen=True, slots=True)
class FileInput:
    """A file whose columns are those of the contract.

    Lines count from 1; of a CSV file the header is the first. A quoted line break does not count.
    """

    path: Path
    columns: TableColumns
    digest: str
    rows: int | None  # None where only reading tells
    kind: str = "file"

    @classmethod
    def open(cls, path: Path, contract: Contract, digest: Future[str] | None = None) -> FileInput:
        """Read the column names, and compute the digest if nobody does yet.

        Raises:
            BadFile: it is neither CSV nor Parquet, is empty, or lacks a column.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise BadFile(f"{path.name}: a file of transactions ends in .csv or .parquet.")
        try:
            if not path.stat().st_size:
                raise BadFile(f"{path.name}: is empty: its first line must name the columns.")
            names = column_names(path, contract)
            rows = parquet.read_metadata(path).num_rows if path.suffix.lower() == ".parquet" else None
            columns = TableColumns.of(contract, names, path.name)
            found = (digest or digest_ahead(path)).result()
        except UNREADABLE as error:
            raise unreadable(path, error) from None
        return cls(path, columns, found, rows)

    @property
    def first_line(self) -> int:
        return 1 if self.rows is not None else 2

    def chunks(self, after: int | None, number: int, rows: int) -> Iterator[Chunk]:
        """The chunks behind the line `after`, of about `rows` rows; `number` is the first one's.

        Raises:
            BadFile: the file cannot be read on.
        """
        done = self.first_line - 1 if after is None else after
        read = _csv_chunks if self.rows is None else _parquet_chunks
        try:
            for chunk in read(self, done, number, rows):
                yield chunk
                number += 1
        except UNREADABLE as error:
            raise unreadable(self.path, error) from None
        if number == 0:
            raise LastingFailure(f"{self.path.name}: holds no transactions.")


def digest_ahead(path: Path) -> Future[str]:
    """A file's SHA-256 in hex, which a thread computes while the job logs in and loads the model."""
    digest: Future[str] = Future()

    def compute() -> None:
        try:
            with path.open("rb") as file:
                digest.set_result(hashlib.file_digest(file, "sha256").hexdigest())
        except Exception as error:
            digest.set_exception(error)

    # A job that fails meanwhile does not wait for it.
    Thread(target=compute, name="digest", daemon=True).start()
    return digest


def _parquet_chunks(source: FileInput, done: int, number: int, rows: int) -> Iterator[Chunk]:
    total = source.rows or 0
    with parquet.ParquetFile(source.path, pre_buffer=False, buffer_size=_PAGE_BYTES) as file:
        first = 0
        groups: list[int] = []
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if groups or first + size > done:
                groups.append(group)
            else:
                first += size
        for batch in file.iter_batches(rows, row_groups=groups, columns=source.columns.names):
            start, first = first, first + batch.num_rows
            if first <= done:
                continue
            table = pa.table(batch).slice(max(0, done - start))
            lines = np.arange(first - table.num_rows + 1, first + 1)
            yield Chunk(Mark(number, first, first / total), table, lines)
            number += 1


def _csv_chunks(source: FileInput, done: int, number: int, rows: int) -> Iterator[Chunk]:
    malformed: list[RejectedRow] = []

    def note(row: Any) -> str:
        detail = f"has {row.actual_columns} values, the header has {row.expected_columns}."
        malformed.append(RejectedRow(int(row.number), "", Reason.WRONG_TYPE, detail))
        return "skip"

    size = source.path.stat().st_size
    line = source.first_line
    with pa.OSFile(str(source.path)) as file, _csv_reader(source, file, note, rows) as reader:
        for batch in reader:
            taken = len(malformed)
            lines, line = _lines(batch.num_rows, line, [row.line for row in malformed[:taken]])
            end = int(lines[-1]) if len(lines) else line - 1
            own = [row for row in malformed[:taken] if done < row.line <= end]
            malformed = [row for row in malformed if row.line > end]
            table, lines = _without_blank(pa.table(batch), lines)
            kept = lines > done
            if end > done:
                table = table.filter(pa.array(kept)) if not kept.all() else table
                mark = Mark(number, end, min(1.0, file.tell() / size))
                yield Chunk(mark, table, lines[kept], tuple(own))
                number += 1
        if last := [row for row in malformed if row.line > max(done, line - 1)]:
            yield Chunk(Mark(number, last[-1].line, 1.0), table.slice(0, 0), lines[:0], tuple(last))


def _csv_reader(
    source: FileInput, file: pa.NativeFile, note: Callable[[Any], str], rows: int
) -> csv.CSVStreamingReader:
    """All cells are bytes that nobody has interpreted; in one thread, because only then lines are known."""
    names = [*source.columns.names, *source.columns.ignored]
    return csv.open_csv(
        file,
        read_options=csv.ReadOptions(use_threads=False, block_size=max(_LEAST_BYTES, rows * _ROW_BYTES)),
        parse_options=csv.ParseOptions(
            newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), null_values=[""], strings_can_be_null=True
        ),
    )


def _lines(rows: int, first: int, skipped: list[int]) -> tuple[NDArray[np.int64], int]:
    """The lines of consecutive rows among which those lines were skipped, and the line after them."""
    gaps = np.array(sorted(line for line in skipped if line >= first), dtype=np.int64)
    lines = np.arange(first, first + rows, dtype=np.int64)
    for gap in gaps.tolist():
        lines[lines >= gap] += 1
    return lines, (int(lines[-1]) + 1 if rows else first)


def _without_blank(table: pa.Table, lines: NDArray[np.int64]) -> tuple[pa.Table, NDArray[np.int64]]:
    """Without the rows that hold nothing at all, such as an empty line at the end."""
    blank = pc.is_null(table.column(0))
    if not pc.any(blank).as_py():
        return table, lines
    for column in table.columns[1:]:
        blank = pc.and_(blank, pc.is_null(column))
    if not pc.any(blank).as_py():
        return table, lines
    filled = pc.invert(blank)
    return table.filter(filled), lines[np.array(filled.to_pylist(), dtype=np.bool_)]
