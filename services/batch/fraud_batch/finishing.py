"""The end of a run: the output gets its name, the refused rows are put together, the report, the result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from fraud_adapters.job.failures import LastingFailure
from fraud_batch.addresses import TABLE, deliver, written_path
from fraud_batch.arguments import ScoringRequest
from fraud_batch.output_file import REJECTS_SCHEMA, OutputFile, write_file
from fraud_batch.report import to_page
from fraud_batch.run_context import RunContext, Source
from fraud_batch.run_folder import REFUSED, REJECTS, REPORT, REPORT_PAGE, RESULT, Part
from fraud_batch.tally import Tally


def finish(
    context: RunContext,
    request: ScoringRequest,
    begun: dict[str, Any],
    source: Source,
    parts: Sequence[Part],
    *,
    output: OutputFile | None,
) -> dict[str, Any]:
    """Write everything that a run leaves; may be repeated.

    Args:
        output: has the scores of all parts; None if they are in the table.

    Raises:
        LastingFailure: no row is valid.
    """
    tally = Tally()
    for part in parts:
        tally.add(part.tally)
    rejects = _write_rejects(context, request, parts) if tally.refused else None
    if not tally.scored:
        raise LastingFailure(
            f"None of the {tally.rows:,} rows is a valid transaction of {context.contract.schema_id}: "
            f"see {rejects}."
        )
    digest = _finish_output(context, request, parts, output)
    report = _report(context, request, begun, source, tally) | {
        "engine": next(part.engine for part in parts if part.engine),
        "seconds": round(sum(part.seconds for part in parts), 3),
        "rejects": rejects,
        "output": {
            "address": request.output,
            "digest": digest,
            "digest_of": "parts" if request.output == TABLE else "file",
        },
    }
    if request.file is None:
        report["input"]["digest"] = _folded(part.input_digest for part in parts)
    context.folder.write_json(REPORT, report)
    context.folder.write(REPORT_PAGE, to_page(report).encode())
    result = _result(context, report)
    context.folder.write_json(RESULT, result)
    return result


def _finish_output(
    context: RunContext, request: ScoringRequest, parts: Sequence[Part], output: OutputFile | None
) -> str:
    """The SHA-256 of the file, which is then at its address; of the table's predictions that of the parts."""
    if output is None:
        return _folded(part.output_digest for part in parts)
    digest = output.finish()
    deliver(context.folder.store, request.output, output.path)
    return digest


def _write_rejects(context: RunContext, request: ScoringRequest, parts: Sequence[Part]) -> str:
    """The refused rows as a CSV file, beside the output and in the run's folder; returns its address."""
    refused = [part for part in parts if part.tally.refused]
    addresses = [context.folder.address(REJECTS)]
    if request.output != TABLE:
        addresses.append(_beside(request.output))
    for address in addresses:
        path = written_path(address, context.scratch)
        write_file(path, REJECTS_SCHEMA, context.folder.tables(refused, REFUSED))
        deliver(context.folder.store, address, path)
    return addresses[-1]


def _beside(address: str) -> str:
    return f"{address.rpartition('.')[0]}.{REJECTS}"


def _folded(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _report(
    context: RunContext, request: ScoringRequest, begun: dict[str, Any], source: Source, tally: Tally
) -> dict[str, Any]:
    described = request.file or f"stored transactions {request.interval}, as of {begun['stored_before']}"
    return {
        "dag": context.dag,
        "run_id": context.run_id,
        "requested_by": begun["requested_by"],
        "started_at": begun["started_at"],
        "finished_at": datetime.now(UTC).isoformat(),
        "attempts": begun["attempts"],
        "contract": context.contract.schema_id,
        "code_version": context.code_version,
        "engine_runs_on": begun["engine_runs_on"],
        "model": {**begun["model"], "asked_for": request.model, "threshold": begun["threshold"]},
        "input": {
            "description": described,
            "digest": source.digest,
            "digest_of": "file" if request.file is not None else "parts",
            "ignored_columns": list(source.columns.ignored),
        },
        "counts": tally.to_mapping(),
    }


def _result(context: RunContext, report: dict[str, Any]) -> dict[str, Any]:
    counts = report["counts"]
    return {
        "status": "done",
        "dag": context.dag,
        "run_id": context.run_id,
        "prefix": context.folder.prefix,
        "report": context.folder.address(REPORT_PAGE),
        "rows": counts["rows"],
        "scored": counts["scored"],
        "refused": counts["refused"],
        "flagged": counts["flagged"],
        "decisions": counts["decisions"],
        "reasons": counts["reasons"],
        "output": report["output"]["address"],
        "output_digest": report["output"]["digest"],
        "input_digest": report["input"]["digest"],
        "rejects": report["rejects"],
        "model_version": report["model"]["version"],
        "engine": report["engine"],
        "requested_by": report["requested_by"],
        "seconds": report["seconds"],
        "rows_per_second": round(counts["rows"] / max(report["seconds"], 1e-9)),
    }
