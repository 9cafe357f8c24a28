"""The step `load`: examples from Postgres or from a labelled file, to the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from config.job_results.trainer import LeftOutCounts, LoadResult
from config.settings import ConfigurationError
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.objectstore import ObjectMissing
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import examples, simulations
from fraud_core.labels import cut_off
from fraud_core.moments import parse_moment
from fraud_trainer.engines.tables import ExamplesPart, digest_of, part_name, recorded, store_examples, total
from fraud_trainer.engines.tasks import LoadTask, load_part
from fraud_trainer.load.file_examples import read_file
from fraud_trainer.load.sources import STORE
from fraud_trainer.load.topic_examples import TopicSpan, read_topic
from fraud_trainer.run_context import RunContext

EXAMPLES: Final = "examples.parquet"
STREAM: Final = "stream"  # the source of transactions that came through the topic
SIMULATOR: Final = "simulator"  # the source of simulated labels and of backfilled history


@dataclass(frozen=True, slots=True)
class LoadedExamples:
    """Stored examples in order of event time, as `read_examples` describes them, and what is known of them.

    `as_of` is the cut-off for their labels, None if the labels came with the transactions.
    """

    parts: list[ExamplesPart]
    as_of: datetime | None
    left_out: LeftOutCounts
    optimum: simulations.StoredOptimum | None = None


def load(context: RunContext) -> LoadResult:
    """Transactions with a mature label, from where the options say to the run's folder."""
    loaded = _read(context)
    filled, optimum = [one for one in loaded.parts if one.part["rows"]], loaded.optimum
    parts = [one.part for one in filled]
    outcome: LoadResult = {
        "digest": digest_of(parts),
        "parts": recorded(parts),
        "engine": context.engine.name,
        "rows": sum(part["rows"] for part in parts),
        "frauds": sum(one.frauds for one in filled),
        "as_of": loaded.as_of.isoformat() if loaded.as_of else None,
        "data_from": _known(filled[0].first).isoformat(),
        "data_to": _known(filled[-1].last).isoformat(),
        "origin": context.source.describe(),
        "sources": total([one.sources for one in filled]),
        "label_sources": total([one.label_sources for one in filled]),
        "optimum": dict(optimum.figures) if optimum else None,
        "population": optimum.population if optimum else None,
        **loaded.left_out,
    }
    context.run.finish(context.run.seal("load", outcome))
    return outcome


def _known(moment: datetime | None) -> datetime:
    assert moment is not None, "a part with rows has times"
    return moment


def _read(context: RunContext) -> LoadedExamples:
    if context.source.file is not None:
        return _from_file(context)
    return (
        _from_postgres(context)
        if context.source.topic is None
        else _from_topic(context, context.source.topic)
    )


def _stored(context: RunContext, table: pa.Table) -> list[ExamplesPart]:
    """Store a table of this process in as many parts as the engine has use for."""
    moments = table.column(examples.TIME).cast(pa.int64()).to_numpy()
    count = context.engine.pieces(table.num_rows)
    # Rows of one moment stay in one part.
    cuts = np.searchsorted(moments, moments[np.arange(1, count) * len(moments) // count], side="left")
    bounds = np.unique([0, *cuts, len(moments)])
    return [
        store_examples(
            context, part_name(EXAMPLES, number, len(bounds) - 1), table.slice(start, stop - start)
        )
        for number, (start, stop) in enumerate(pairwise(bounds.tolist()))
    ]


def labels_cut_off(loaded: Step) -> datetime | None:
    """The cut-off for the labels of a finished `load`; None if they are not this platform's."""
    as_of = loaded.outcome.get("as_of")
    return parse_moment(as_of) if as_of else None


def _from_postgres(context: RunContext) -> LoadedExamples:
    interval = context.source.interval
    with closing(context.database()) as connection:
        as_of = _cut_off(context, examples.database_clock(connection))
        rows = examples.count_transactions(connection, context.contract, as_of, interval)
        count = context.engine.pieces(rows)
        intervals = examples.divided(connection, context.contract, as_of, interval, count)
        left_out = examples.left_out(connection, context.contract, as_of, interval)
    tasks = [
        LoadTask(context.contract, as_of, within, part_name(EXAMPLES, number, len(intervals)))
        for number, within in enumerate(intervals)
    ]
    parts = context.engine.map(context, load_part, tasks)
    if not any(one.part["rows"] for one in parts):
        within = f" {interval}" if interval.bounded else ""
        raise LastingFailure(
            f"There is no transaction of {context.contract.schema_id}{within} with a mature label as of "
            f"{as_of.isoformat(timespec='seconds')}."
        )
    return LoadedExamples(parts, as_of, left_out, _optimum(context, parts))


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
    return LoadedExamples(_stored(context, table), as_of, left_out)


def _from_file(context: RunContext) -> LoadedExamples:
    name = str(context.source.file)
    with scratch_directory() as directory:
        path = _fetched(context, name, directory) if name.startswith(STORE) else Path(name)
        table = read_file(path, context.contract, context.source.file_start)
    return LoadedExamples(_stored(context, table), None, {"left_out_blocked": 0, "left_out_unknown": 0})


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


def _optimum(context: RunContext, parts: Sequence[ExamplesPart]) -> simulations.StoredOptimum | None:
    # A transaction from the stream does not tell whether it is simulated, but its label does.
    if not any(SIMULATOR in one.label_sources for one in parts):
        return None
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        return simulations.first_optimum(cursor)
