"""The step `load`: examples from Postgres or from a labelled file, to the run's folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.job_results.trainer import LeftOutCounts, LoadResult
from config.settings import ConfigurationError
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.objectstore import ObjectMissing
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import examples, simulations
from fraud_core.labels import cut_off
from fraud_core.moments import parse_moment
from fraud_trainer.load.file_examples import read_file
from fraud_trainer.load.sources import STORE
from fraud_trainer.load.topic_examples import TopicSpan, read_topic
from fraud_trainer.run_context import RunContext

EXAMPLES: Final = "examples.parquet"
STREAM: Final = "stream"  # the source of transactions that came through the topic
SIMULATOR: Final = "simulator"  # the source of simulated labels and of backfilled history


@dataclass(frozen=True, slots=True)
class LoadedExamples:
    """Examples ordered by event time, as `read_examples` describes them, and what is known of them.

    `as_of` is the cut-off for their labels, None if the labels came with the transactions.
    """

    table: pa.Table
    as_of: datetime | None
    left_out: LeftOutCounts
    optimum: simulations.StoredOptimum | None = None


def load(context: RunContext) -> LoadResult:
    """Transactions with a mature label, from where the options say to the run's folder."""
    loaded = _read(context)
    table, optimum = loaded.table, loaded.optimum
    times = table.column(examples.TIME)
    outcome: LoadResult = {
        "digest": context.run.put_table(EXAMPLES, table),
        "rows": table.num_rows,
        "frauds": int(pc.sum(table.column(examples.LABEL)).as_py()),
        "as_of": loaded.as_of.isoformat() if loaded.as_of else None,
        "data_from": times[0].as_py().isoformat(),
        "data_to": times[-1].as_py().isoformat(),
        "origin": context.source.describe(),
        "sources": _counts(table.column(examples.SOURCE)),
        "label_sources": _counts(table.column(examples.LABEL_SOURCE)),
        "optimum": dict(optimum.figures) if optimum else None,
        "population": optimum.population if optimum else None,
        **loaded.left_out,
    }
    context.run.finish(context.run.seal("load", outcome))
    return outcome


def _read(context: RunContext) -> LoadedExamples:
    if context.source.file is not None:
        return _from_file(context)
    return (
        _from_postgres(context)
        if context.source.topic is None
        else _from_topic(context, context.source.topic)
    )


def labels_cut_off(loaded: Step) -> datetime | None:
    """The cut-off for the labels of a finished `load`; None if they are not this platform's."""
    as_of = loaded.outcome.get("as_of")
    return parse_moment(as_of) if as_of else None


def _from_postgres(context: RunContext) -> LoadedExamples:
    interval = context.source.interval
    with closing(context.database()) as connection:
        as_of = _cut_off(context, examples.database_clock(connection))
        table = examples.read_examples(connection, context.contract, as_of, interval)
        left_out = examples.left_out(connection, context.contract, as_of, interval)
        # A transaction from the stream does not tell whether it is simulated, but its label does.
        simulated = SIMULATOR in _counts(table.column(examples.LABEL_SOURCE))
        optimum = _optimum(connection) if simulated else None
    if not table.num_rows:
        within = f" {interval}" if interval.bounded else ""
        raise LastingFailure(
            f"There is no transaction of {context.contract.schema_id}{within} with a mature label as of "
            f"{as_of.isoformat(timespec='seconds')}."
        )
    return LoadedExamples(table, as_of, left_out, optimum)


def _from_topic(context: RunContext, span: TopicSpan) -> LoadedExamples:
    with closing(context.database()) as connection:
        as_of = _cut_off(context, examples.database_clock(connection))
        rows = read_topic(context.kafka(), context.contract, span, as_of)
        labels = examples.mature_labels(connection, rows.batch.ids, as_of)
        unlabelled = [identifier for identifier in rows.batch.ids if identifier not in labels]
        blocked = examples.count_blocked(connection, unlabelled)
    kept = [row for row, identifier in enumerate(rows.batch.ids) if identifier in labels]
    if not kept:
        raise LastingFailure("No transaction of the topic's span has a mature label.")
    batch = rows.batch.take(kept)
    values = [labels[identifier] for identifier in batch.ids]
    table = examples.from_batch(
        context.contract,
        batch,
        np.array([label for label, _ in values], dtype=np.int8),
        STREAM,
        [source for _, source in values],
    )
    left_out: LeftOutCounts = {
        "left_out_blocked": blocked,
        "left_out_unknown": len(unlabelled) - blocked,
        "left_out_refused": rows.refused,
    }
    return LoadedExamples(table, as_of, left_out)


def _from_file(context: RunContext) -> LoadedExamples:
    name = str(context.source.file)
    with scratch_directory() as directory:
        path = _fetched(context, name, directory) if name.startswith(STORE) else Path(name)
        table = read_file(path, context.contract, context.source.file_start)
    return LoadedExamples(table, None, {"left_out_blocked": 0, "left_out_unknown": 0})


def _fetched(context: RunContext, address: str, directory: Path) -> Path:
    """The object of the runs' bucket as a file of its name."""
    key = address.removeprefix(STORE)
    path = directory / Path(key).name
    try:
        path.write_bytes(context.run.store.get_bytes(key))
    except ObjectMissing:
        raise LastingFailure(f"--file: there is no {address}.") from None
    return path


def _cut_off(context: RunContext, now: datetime) -> datetime:
    try:
        return cut_off(context.as_of, now)
    except ValueError as error:
        raise ConfigurationError(f"--as-of: {error}; give a moment that has passed.") from None


def _optimum(connection: Connection) -> simulations.StoredOptimum | None:
    with connection, connection.cursor() as cursor:
        return simulations.first_optimum(cursor)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
