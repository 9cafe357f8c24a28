"""Tables of a run that lie in one file or in several, cut between two moments."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.job_results.trainer import TablePart
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore.run_store import RunStore, Step
from fraud_adapters.postgres import examples


class Access(Protocol):
    """What a task works with: the run's files, and Postgres."""

    @property
    def run(self) -> RunStore: ...

    @property
    def database(self) -> Callable[[], Connection]: ...


@dataclass(frozen=True, slots=True)
class ExamplesPart:
    """A stored part of the examples, and what is counted of it; the times are None without rows."""

    part: TablePart
    frauds: int
    first: datetime | None
    last: datetime | None
    sources: Mapping[str, int]
    label_sources: Mapping[str, int]


def part_name(file: str, number: int, of: int) -> str:
    """The file of a part; a table of one part keeps the plain name."""
    return file if of == 1 else f"{file.removesuffix('.parquet')}/{number:05}.parquet"


def digest_of(parts: Sequence[TablePart]) -> str:
    """The digest of a table: that of its only file, else that of its parts' digests in their order."""
    if len(parts) == 1:
        return parts[0]["digest"]
    return hashlib.sha256("\n".join(part["digest"] for part in parts).encode()).hexdigest()


def recorded(parts: Sequence[TablePart]) -> list[TablePart]:
    """The parts as a step records them: none of a table in one file, whose digest is the step's."""
    return list(parts) if len(parts) > 1 else []


def parts_of(step: Step, file: str) -> list[TablePart]:
    """The parts that a finished step recorded.

    Raises:
        LastingFailure: they are not those whose digest the step holds.
    """
    parts: list[TablePart] = list(step.outcome.get("parts") or [])
    if not parts:
        return [TablePart(name=file, digest=step["digest"], rows=step.outcome.get("rows", 0))]
    if digest_of(parts) != step["digest"]:
        raise LastingFailure(f"{step.name}.json names other parts than its digest: run {step.name} again.")
    return parts


def store_examples(access: Access, name: str, table: pa.Table) -> ExamplesPart:
    """Store examples ordered by event time as a part."""
    times = table.column(examples.TIME)
    return ExamplesPart(
        TablePart(name=name, digest=access.run.put_table(name, table), rows=table.num_rows),
        int(pc.sum(table.column(examples.LABEL)).as_py() or 0),
        times[0].as_py() if table.num_rows else None,
        times[-1].as_py() if table.num_rows else None,
        counts(table.column(examples.SOURCE)),
        counts(table.column(examples.LABEL_SOURCE)),
    )


def counts(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def total(counted: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts."""
    whole: Counter[str] = Counter()
    for one in counted:
        whole.update(one)
    return dict(whole)
