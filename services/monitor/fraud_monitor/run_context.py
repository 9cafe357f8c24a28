"""The context of a monitoring run that all verbs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import Parameters
from config.settings import KafkaSettings
from fraud_adapters.models.tracked_runs import TrackedRun
from fraud_adapters.objectstore.run_store import RunStore
from fraud_core.contract import Contract
from fraud_core.gate import GatePolicy
from fraud_core.manifest import Manifest
from fraud_core.profile import Profile
from fraud_monitor.replay.verifying import Replayer

EXPERIMENT = "fraud-monitoring"  # the MLflow experiment of all runs of the monitor


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that decides, and what its inputs and scores looked like when it was made.

    Attributes:
        profile: None if the version has none; `problem` then says so in one sentence.
        manifest: None if the version's files cannot be used, for the reason in `problem`.
    """

    version: str
    manifest: Manifest | None
    profile: Profile | None
    problem: str | None = None


class Tracking(Protocol):
    """What the monitor writes to MLflow; see `fraud_adapters.models.registry_writer`."""

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None: ...

    def log_files(self, run_id: str, directory: Path, path: str | None = None) -> None: ...

    def tag_version(self, name: str, version: str, tags: Mapping[str, str]) -> None: ...


class MlflowRuns(Protocol):
    """The MLflow runs that belong to monitoring runs; see `fraud_adapters.models.tracked_runs`."""

    def open(self, experiment: str, folder: str, name: str, tags: Mapping[str, str]) -> str: ...

    def find(self, folder: str) -> list[TrackedRun]: ...

    def end(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None: ...


@dataclass(frozen=True, slots=True)
class RunContext:
    """One monitoring run's contract, parameters and connections, which are opened on demand.

    `champion` gives None if there is no champion; it is fetched once. `version` gives a recorded version,
    whether or not it serves; it raises `ModelRefused` where its files are not the recorded ones.
    """

    contract: Contract
    parameters: Parameters
    run: RunStore
    database: Callable[[], Connection]
    champion: Callable[[], Champion | None]
    version: Callable[[str], Replayer]
    tracking: Callable[[], Tracking]
    tracked: MlflowRuns
    kafka: Callable[[], KafkaSettings]
    now: datetime

    @property
    def gate_name(self) -> str:
        return self.parameters.gate

    @property
    def policy(self) -> GatePolicy:
        return self.parameters.gate_in_force
