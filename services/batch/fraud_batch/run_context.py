"""What a run works with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.batch import BatchPrediction
from fraud_adapters.models.registry import Registry
from fraud_batch.input_file import FileInput
from fraud_batch.input_interval import IntervalInput
from fraud_batch.run_folder import RunFolder
from fraud_core.contract import Contract

_LONGEST_RUN: Final = 100  # characters of a run's name in the table of predictions
Source = FileInput | IntervalInput


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run works with; `connection` is its own and holds its lock."""

    contract: Contract
    parameters: BatchPrediction
    connection: Connection
    registry: Registry
    folder: RunFolder
    dag: str
    run_id: str
    code_version: str
    scratch: Path
    dask_scheduler: str | None = None

    @property
    def stored_run(self) -> str:
        """The run's name in the table of predictions: its id, or the beginning and a digest of a long one."""
        if len(self.run_id) <= _LONGEST_RUN:
            return self.run_id
        digest = hashlib.sha256(self.run_id.encode()).hexdigest()[:32]
        return f"{self.run_id[: _LONGEST_RUN - len(digest) - 1]}-{digest}"
