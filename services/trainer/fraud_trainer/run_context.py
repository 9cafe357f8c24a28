"""The context of a training run that all steps share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import Training
from config.settings import KafkaSettings
from fraud_adapters.models.tracked_runs import ModelVersion, TrackedRun
from fraud_adapters.objectstore.run_store import RunStore
from fraud_core.contract import Contract
from fraud_core.gate import GatePolicy
from fraud_trainer.engines.engine import Engine, LocalEngine
from fraud_trainer.load.sources import ExampleSource

# In this order; each step uses the output of the previous one.
STEPS: Final = ("load", "features", "train", "validate", "register")


class Tracking(Protocol):
    """The MLflow operations that the trainer needs; see `fraud_adapters.models.registry_writer`."""

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None: ...

    def log_files(self, run_id: str, directory: Path, path: str | None = None) -> None: ...

    def register(self, name: str, run_id: str, tags: Mapping[str, str]) -> str: ...

    def set_alias(self, name: str, alias: str, version: str) -> None: ...


class RegistryReader(Protocol):
    """The registry as services read it; see `fraud_adapters.models.registry`."""

    def version_of_alias(self, name: str, alias: str) -> str | None: ...

    def download(self, name: str, version: str, destination: Path) -> Path: ...


class MlflowRuns(Protocol):
    """The MLflow runs that belong to training runs; see `fraud_adapters.models.tracked_runs`."""

    def open(self, experiment: str, folder: str, name: str, tags: Mapping[str, str]) -> str: ...

    def find(self, folder: str) -> list[TrackedRun]: ...

    def get(self, run_id: str) -> TrackedRun | None: ...

    def resume(self, run: TrackedRun) -> None: ...

    def end(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None: ...

    def end_unfinished(
        self, runs: Sequence[TrackedRun], status: Literal["FAILED", "KILLED"]
    ) -> list[str]: ...

    def versions(self, run_id: str) -> list[ModelVersion]: ...


@dataclass(frozen=True, slots=True)
class RunContext:
    """One training run's contract, parameters and connections, which are opened on demand.

    `as_of` is the cut-off for labels; None means the current time of the database. `source` is where `load`
    reads examples. `preflight` checks the servers that the run uses.
    """

    contract: Contract
    training: Training
    gate: str
    policy: GatePolicy
    run: RunStore
    database: Callable[[], Connection]
    tracking: Callable[[], Tracking]
    registry: RegistryReader
    tracked: MlflowRuns
    now: datetime
    as_of: datetime | None
    code_version: str
    source: ExampleSource = field(default_factory=ExampleSource)
    kafka: Callable[[], KafkaSettings] = KafkaSettings
    preflight: Callable[[], None] = lambda: None
    engine: Engine = field(default_factory=LocalEngine)
