"""The results of the verbs of `fraud_batch`."""

from __future__ import annotations

from typing import Literal, TypedDict


class BatchResult(TypedDict):
    """`score`: what was scored, and where the scores and the report are."""

    status: Literal["done"]
    dag: str
    run_id: str
    prefix: str  # where the run's files are
    report: str  # the address of the report as a page; `report.json` is beside it
    rows: int  # read; each was scored or refused
    scored: int
    refused: int
    flagged: int  # whose score reaches the model's threshold
    decisions: dict[str, int]  # what the model would have decided
    reasons: dict[str, int]  # of refused rows
    output: str  # `table`, or the address of the file
    output_digest: str
    input_digest: str
    rejects: str | None  # the address of the list of refused rows
    model_version: str
    engine: str
    requested_by: str
    seconds: float  # of work, all attempts together
    rows_per_second: int
