"""A run of batch prediction: begin or resume, score chunk by chunk, finish."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic
from typing import Any, cast

from config.job_results.batch import BatchResult
from config.settings import ConfigurationError
from fraud_adapters.job.failures import LastingFailure, PassingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import batch_predictions
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.transaction_pages import Selection
from fraud_batch.addresses import TABLE, local_copy, written_path
from fraud_batch.arguments import ScoringRequest
from fraud_batch.chunks import ScoredChunk, ScoringPlan
from fraud_batch.engine import Engine, choose_engine
from fraud_batch.finishing import finish
from fraud_batch.input_file import FileInput
from fraud_batch.input_interval import IntervalInput
from fraud_batch.output_file import SCORES_SCHEMA, OutputFile, rejects_table, scores_table
from fraud_batch.progress import Progress
from fraud_batch.run_context import RunContext, Source
from fraud_batch.run_folder import REFUSED, REQUEST, RESULT, SCORES, Part
from fraud_batch.tally import Tally
from fraud_batch.versions import ChosenVersion, choose_version, version_files
from fraud_core.decision import BY_RANK
from fraud_core.manifest import FILE_NAME, Manifest
from fraud_core.moments import parse_moment


def score(
    context: RunContext, request: ScoringRequest, requested_by: str, digest: Future[str] | None = None
) -> BatchResult:
    """Begin a run, or go on with the one of this id; a finished one is left as it is.

    Args:
        digest: of the file to score, if it is being computed already.

    Raises:
        ConfigurationError: the options are not those the run was begun with, or name what is not there.
        JobFailed: the input cannot be read, or something that is needed does not answer.
    """
    if not batch_predictions.try_lock_run(context.connection, context.folder.prefix):
        raise PassingFailure(f"The run {context.run_id} is in progress: another process works on it.")
    begun = _begun(context, request, requested_by)
    if (result := context.folder.read_json(RESULT)) is not None:
        get_logger(__name__).info("run_was_finished", run=context.folder.prefix)
        return _result(result)
    with ExitStack() as stack:
        source = _source(context, request, begun, stack, digest)
        _bind_input(context, begun, source)
        plan = _plan(context, request, begun, source)
        chosen = choose_engine(plan, context.parameters.threads, context.dask_scheduler)
        engine = stack.enter_context(chosen)
        output = _output(context, request, stack)
        parts = _score_rest(context, plan, source, engine, output)
        manifest = Manifest.from_json(plan.files[FILE_NAME])
        begun |= {"engine_runs_on": engine.name, "threshold": manifest.threshold}
        return _result(finish(context, request, begun, source, parts, output=output))


def _result(content: dict[str, Any]) -> BatchResult:
    return cast(BatchResult, content)


def _begun(context: RunContext, request: ScoringRequest, requested_by: str) -> dict[str, Any]:
    """What the run was begun with; it keeps its version though the alias may move."""
    begun = context.folder.read_json(REQUEST)
    if begun is None:
        chosen = choose_version(
            context.connection, context.registry, context.contract.registered_model, request.model
        )
        begun = {
            "options": request.describe(),
            "model": chosen.to_mapping(),
            "requested_by": requested_by,
            "started_at": datetime.now(UTC).isoformat(),
            "stored_before": database_clock(context.connection).isoformat(),
            "attempts": 0,
        }
    elif begun["options"] != request.describe():
        different = [name for name, value in request.describe().items() if begun["options"][name] != value]
        raise ConfigurationError(
            f"--run-id: {context.run_id} was begun with another {' and '.join(different)}: "
            "take another run id, or give the same options."
        )
    begun["attempts"] += 1
    context.folder.write_json(REQUEST, begun)
    return begun


def _source(
    context: RunContext,
    request: ScoringRequest,
    begun: dict[str, Any],
    stack: ExitStack,
    digest: Future[str] | None,
) -> Source:
    if request.file is None:
        before = parse_moment(begun["stored_before"])
        return IntervalInput.open(context.connection, Selection(context.contract, request.interval, before))
    path = stack.enter_context(local_copy(context.folder.store, request.file, context.scratch))
    return FileInput.open(path, context.contract, digest)


def _bind_input(context: RunContext, begun: dict[str, Any], source: Source) -> None:
    """Note the file's digest; a run is not resumed with another file of the name."""
    known = begun.setdefault("input_digest", source.digest)
    if known != source.digest:
        raise LastingFailure(
            f"--input: the file has changed since {context.run_id} began: take another --run-id."
        )
    context.folder.write_json(REQUEST, begun)


def _plan(context: RunContext, request: ScoringRequest, begun: dict[str, Any], source: Source) -> ScoringPlan:
    chosen = ChosenVersion(**begun["model"])
    return ScoringPlan(
        contract=context.contract,
        version=chosen.version,
        digest=chosen.digest,
        files=version_files(context.registry, chosen),
        kind=request.kind,
        columns=source.columns,
        origin=source.digest,
        first_line=source.first_line,
    )


def _output(context: RunContext, request: ScoringRequest, stack: ExitStack) -> OutputFile | None:
    """The file that the scores go to; None if it is the table."""
    if request.output == TABLE:
        return None
    path = written_path(request.output, context.scratch)
    return stack.enter_context(OutputFile.begun(path, SCORES_SCHEMA))


def _score_rest(
    context: RunContext,
    plan: ScoringPlan,
    source: Source,
    engine: Engine,
    output: OutputFile | None,
) -> list[Part]:
    """Score what no finished part covers; returns all parts, whose scores are in `output` then."""
    log = get_logger(__name__)
    parts = context.folder.parts()
    total = Tally()
    for part in parts:
        total.add(part.tally)
    if parts:
        log.info("resumed", run=context.folder.prefix, rows=total.rows, parts=len(parts))
    if output is not None:
        for table in context.folder.tables(parts, SCORES):
            output.write(table)
    progress = Progress(monotonic, log.info, done_before=parts[-1].done if parts else 0.0)
    after = parts[-1].end if parts else None
    chunks = source.chunks(after, len(parts), context.parameters.chunk_rows)
    for part in _stored(context, plan.version, engine.scored(chunks), output):
        total.add(part.tally)
        parts.append(part)
        progress.add(part.tally.rows, part.done, total.rows)
    progress.say(1.0, total.rows)
    return parts


def _stored(
    context: RunContext, version: str, scored: Iterator[ScoredChunk], output: OutputFile | None
) -> Iterator[Part]:
    started = monotonic()
    for chunk in scored:
        mark = chunk.mark
        if chunk.rejected:
            context.folder.write_table(mark.number, REFUSED, rejects_table(chunk.rejected))
        if output is None:
            digest = _store_in_table(context, version, chunk)
        else:
            table = scores_table(chunk, version)
            digest = context.folder.write_table(mark.number, SCORES, table)
            output.write(table)
        started, seconds = monotonic(), monotonic() - started
        part = Part(
            mark.number, mark.end, mark.done, mark.digest, digest, Tally.of(chunk), chunk.engine, seconds
        )
        context.folder.finish(part)
        yield part


def _store_in_table(context: RunContext, version: str, chunk: ScoredChunk) -> str:
    """Store a chunk's predictions; returns the SHA-256 of their ids and scores, in hex."""
    ids = chunk.ids.to_pylist()
    if ids:
        batch_predictions.store_batch(
            context.connection,
            context.stored_run,
            version,
            chunk.engine,
            ids,
            chunk.scores,
            chunk.ranks > 0,
            [str(BY_RANK[rank]) for rank in chunk.ranks.tolist()],
            chunk.features,
        )
    return hashlib.sha256("\n".join(ids).encode() + b"\n" + chunk.scores.tobytes()).hexdigest()
