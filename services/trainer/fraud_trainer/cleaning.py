"""Removes the files of ended runs from the object store once they are old and no version needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import orjson
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import DAG_BATCH
from config.job_results.trainer import CleanResult, RunFiles
from fraud_adapters.job import scratch
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.mlflow_http import RegistryUnavailable
from fraud_adapters.models.registry import ArtefactRefused
from fraud_adapters.models.tracked_runs import UNFINISHED, TrackedRun
from fraud_adapters.objectstore import ObjectEntry
from fraud_adapters.objectstore.run_store import ROOT
from fraud_adapters.postgres.model_versions import read_digests
from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest
from fraud_trainer.run_context import MlflowRuns, RegistryReader

BATCH_REPORT: Final = "report.json"  # of a run of batch prediction; it is kept for audits
_BATCH_RUNS: Final = f"runs/{DAG_BATCH}/"
LISTED: Final = 100  # runs named in a result; the log names all


class Bucket(Protocol):
    """The bucket of the runs, with its own key."""

    def get_bytes(self, key: str) -> bytes: ...

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]: ...

    def delete(self, keys: list[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class CleaningContext:
    """The sources that tell which files are needed, and how long the other ones are kept."""

    bucket: Bucket
    tracked: MlflowRuns
    registry: RegistryReader
    database: Callable[[], Connection]
    keep: timedelta  # of what no version needs, after the last step
    abandoned_after: timedelta
    now: datetime
    temporary: Path  # the folder of the jobs' temporary directories


@dataclass(frozen=True, slots=True)
class Folder:
    """The current files of one run."""

    prefix: str
    entries: tuple[ObjectEntry, ...]

    @property
    def written_at(self) -> datetime:
        return max(entry.written_at for entry in self.entries)

    @property
    def data(self) -> tuple[ObjectEntry, ...]:
        """All files except the steps' JSON and the manifest, which are small and document the version."""
        return tuple(entry for entry in self.entries if not entry.key.endswith(".json"))

    def holds(self, name: str) -> bool:
        return any(entry.key == f"{self.prefix}/{name}" for entry in self.entries)


@dataclass(frozen=True, slots=True)
class CleaningDecision:
    """Which files of a run are removed and why, and which of its MLflow runs are abandoned."""

    reason: str
    remove: tuple[ObjectEntry, ...] = ()
    abandoned: tuple[TrackedRun, ...] = ()


@dataclass(slots=True)
class CleaningReport:
    """What was done, or in a dry run would have been done."""

    removed: list[RunFiles] = field(default_factory=list)
    kept: list[RunFiles] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def note(self, folder: Folder, decision: CleaningDecision) -> None:
        kept = set(folder.entries) - set(decision.remove)
        for entries, listed, event in (
            (decision.remove, self.removed, "run_removed"),
            (kept, self.kept, "run_kept"),
        ):
            if entries:
                size = sum(entry.size for entry in entries)
                line = RunFiles(run=folder.prefix, files=len(entries), bytes=size, why=decision.reason)
                listed.append(line)
                get_logger(__name__).info(event, **line)
        self.ended += [run.run_id for run in decision.abandoned]

    def to_result(self, *, dry_run: bool, directories_removed: int) -> CleanResult:
        return {
            "status": "done",
            "dry_run": dry_run,
            "removed": self.removed[:LISTED],
            "removed_runs": len(self.removed),
            "removed_bytes": sum(line["bytes"] for line in self.removed),
            "kept": self.kept[:LISTED],
            "kept_runs": len(self.kept),
            "kept_bytes": sum(line["bytes"] for line in self.kept),
            "mlflow_runs_ended": self.ended,
            "directories_removed": directories_removed,
        }


def clean(context: CleaningContext, *, dry_run: bool) -> CleanResult:
    """Remove files that no version needs and whose retention has expired; end abandoned MLflow runs.

    The function is idempotent. A run in progress is not touched.

    Raises:
        RegistryUnavailable, DatabaseUnavailable, ObjectStoreUnavailable: it is unknown which files are
            needed, so nothing more is removed.
    """
    report = CleaningReport()
    with closing(context.database()) as connection:
        for prefix in _prefixes(context.bucket.entries(ROOT)):
            # Listed again, because work on the run may have been resumed meanwhile.
            folder = Folder(prefix, tuple(context.bucket.entries(f"{prefix}/")))
            if folder.entries:
                decision = _decide(context, connection, folder)
                if not dry_run:
                    _apply(context, decision)
                report.note(folder, decision)
    directories = scratch.abandoned(context.temporary, context.now - context.abandoned_after)
    if not dry_run:
        scratch.remove(directories)
    return report.to_result(dry_run=dry_run, directories_removed=len(directories))


def _prefixes(entries: Iterable[ObjectEntry]) -> list[str]:
    """The folders `runs/<dag>/<run id>`; objects outside such folders belong to no run and are kept."""
    parts = (entry.key.split("/") for entry in entries)
    return sorted({"/".join(part[:3]) for part in parts if len(part) > 3})


def _apply(context: CleaningContext, decision: CleaningDecision) -> None:
    context.tracked.end_unfinished(decision.abandoned, "KILLED")
    # The JSON is deleted last, because it identifies the run of the other files.
    ordered = sorted(decision.remove, key=lambda entry: entry.key.endswith(".json"))
    if ordered:
        context.bucket.delete([entry.key for entry in ordered])


def _decide(context: CleaningContext, connection: Connection, folder: Folder) -> CleaningDecision:
    age = context.now - folder.written_at
    if not folder.data and folder.holds("register.json"):
        return CleaningDecision("the documents of a registered run")
    if age < context.abandoned_after:
        return CleaningDecision("written to lately: it may be in progress")
    runs = _runs(context, folder)
    abandoned = tuple(run for run in runs if run.status in UNFINISHED)
    if folder.prefix.startswith(_BATCH_RUNS) and folder.holds(BATCH_REPORT):
        parts = tuple(entry for entry in folder.entries if entry.key.startswith(f"{folder.prefix}/parts/"))
        remove = parts if age >= context.keep else ()
        return CleaningDecision("the report of a batch prediction", remove)
    if age < context.keep:
        return CleaningDecision("ended less than retention.run_files ago", abandoned=abandoned)
    reason, remove = _retention(context, connection, folder, [run.run_id for run in runs])
    return CleaningDecision(reason, remove, abandoned)


def _runs(context: CleaningContext, folder: Folder) -> list[TrackedRun]:
    """The MLflow runs tagged with the folder, and the one that its `train.json` names."""
    runs = {run.run_id: run for run in context.tracked.find(folder.prefix)}
    if folder.holds("train.json"):
        with suppress(ValueError, KeyError, TypeError):
            run_id = str(
                orjson.loads(context.bucket.get_bytes(f"{folder.prefix}/train.json"))["mlflow_run_id"]
            )
            if run_id not in runs and (run := context.tracked.get(run_id)) is not None:
                runs[run_id] = run
    return list(runs.values())


def _retention(
    context: CleaningContext, connection: Connection, folder: Folder, run_ids: list[str]
) -> tuple[str, tuple[ObjectEntry, ...]]:
    """The reason for the decision, and the objects to remove."""
    registered = [version for run_id in run_ids for version in context.tracked.versions(run_id)]
    with connection, connection.cursor() as cursor:
        recorded = read_digests(cursor, run_ids)
    for version in registered:
        if version.aliases:
            return f"version {version.version} of {version.name} is {', '.join(sorted(version.aliases))}", ()
        if (version.name, version.version) not in recorded:
            return f"version {version.version} of {version.name} is not recorded: run register again", ()
    if not recorded:
        return "no model version was made of it", folder.entries
    for (name, number), digest in recorded.items():
        if not _registry_holds(context.registry, name, number, digest):
            return f"MLflow does not hold the files of version {number} of {name}", ()
    names = ", ".join(number for _, number in recorded)
    return f"version {names} has no alias, and MLflow holds its files", folder.data


def _registry_holds(registry: RegistryReader, name: str, version: str, digest: str) -> bool:
    """Whether MLflow holds the files with the recorded digests."""
    with scratch.scratch_directory() as directory:
        try:
            files = registry.download(name, version, directory)
            manifest = Manifest.from_json((files / manifests.FILE_NAME).read_bytes())
        except (RegistryUnavailable, ArtefactRefused, ValueError):
            return False
        return manifest.digest() == digest and all(
            hashlib.sha256((files / file).read_bytes()).hexdigest() == expected
            for file, expected in manifest.digests.items()
        )
