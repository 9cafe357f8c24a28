"""What ended runs leave in the object store: kept while a version needs it, else for a stated time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import orjson
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.job_results import CleanResult, RunFiles
from config.parameters import Runs as Periods
from fraud_adapters.job import scratch
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.mlflow_http import RegistryUnavailable
from fraud_adapters.models.tracked_runs import UNFINISHED, TrackedRun
from fraud_adapters.objectstore import ObjectEntry
from fraud_adapters.objectstore.run_store import ROOT
from fraud_adapters.postgres.model_versions import read_digests
from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest
from fraud_trainer.run_context import MlflowRuns, RegistryReader

LISTED: Final = 100  # runs a result names; the log names all


class Bucket(Protocol):
    """The bucket of the runs, with its own key."""

    def get_bytes(self, key: str) -> bytes: ...

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]: ...

    def delete(self, keys: list[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Whom to ask what is still needed, and for how long the rest is kept."""

    bucket: Bucket
    tracked: MlflowRuns
    registry: RegistryReader
    database: Callable[[], Connection]
    periods: Periods
    now: datetime


@dataclass(frozen=True, slots=True)
class Folder:
    """One run's files, as they are now."""

    prefix: str
    entries: tuple[ObjectEntry, ...]

    @property
    def written_at(self) -> datetime:
        return max(entry.written_at for entry in self.entries)

    @property
    def data(self) -> tuple[ObjectEntry, ...]:
        """All but the steps' JSON and the manifest, which are some KB and say how a version was made."""
        return tuple(entry for entry in self.entries if not entry.key.endswith(".json"))

    def holds(self, name: str) -> bool:
        return any(entry.key == f"{self.prefix}/{name}" for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a run's files, and of its MLflow runs that nobody works on any more."""

    why: str
    remove: tuple[ObjectEntry, ...] = ()
    abandoned: tuple[TrackedRun, ...] = ()


@dataclass(slots=True)
class Report:
    """What was done, or with a dry run would be."""

    removed: list[RunFiles] = field(default_factory=list)
    kept: list[RunFiles] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def note(self, folder: Folder, decision: Decision) -> None:
        kept = set(folder.entries) - set(decision.remove)
        for entries, listed, event in (
            (decision.remove, self.removed, "run_removed"),
            (kept, self.kept, "run_kept"),
        ):
            if entries:
                size = sum(entry.size for entry in entries)
                line = RunFiles(run=folder.prefix, files=len(entries), bytes=size, why=decision.why)
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


def clean(house: Housekeeping, *, dry_run: bool) -> CleanResult:
    """Remove what no version needs and the stated time is over for; end MLflow runs nobody works on.

    Repeated, it finds nothing more to remove. A run that is in progress is not touched.

    Raises:
        RegistryUnavailable, DatabaseUnavailable, ObjectStoreUnavailable: what is needed is not known then,
            and nothing more is removed.
    """
    report = Report()
    with closing(house.database()) as connection:
        for prefix in _prefixes(house.bucket.entries(ROOT)):
            # Listed anew: it may have been taken up again meanwhile.
            folder = Folder(prefix, tuple(house.bucket.entries(f"{prefix}/")))
            if folder.entries:
                decision = _decide(house, connection, folder)
                if not dry_run:
                    _carry_out(house, decision)
                report.note(folder, decision)
    directories = scratch.abandoned(house.now - house.periods.abandoned_after)
    if not dry_run:
        scratch.remove(directories)
    return report.to_result(dry_run=dry_run, directories_removed=len(directories))


def _prefixes(entries: Iterable[ObjectEntry]) -> list[str]:
    """The folders `runs/<dag>/<run id>`; what lies elsewhere is nobody's run and stays."""
    parts = (entry.key.split("/") for entry in entries)
    return sorted({"/".join(part[:3]) for part in parts if len(part) > 3})


def _carry_out(house: Housekeeping, decision: Decision) -> None:
    house.tracked.end_unfinished(decision.abandoned, "KILLED")
    # The JSON last: until then it is known whose files they are.
    ordered = sorted(decision.remove, key=lambda entry: entry.key.endswith(".json"))
    if ordered:
        house.bucket.delete([entry.key for entry in ordered])


def _decide(house: Housekeeping, connection: Connection, folder: Folder) -> Decision:
    age = house.now - folder.written_at
    if not folder.data and folder.holds("register.json"):
        return Decision("the documents of a registered run")
    if age < house.periods.abandoned_after:
        return Decision("written to lately: it may be in progress")
    runs = _runs(house, folder)
    abandoned = tuple(run for run in runs if run.status in UNFINISHED)
    if age < house.periods.keep:
        return Decision("ended less than runs.keep ago", abandoned=abandoned)
    why, remove = _needed(house, connection, folder, [run.run_id for run in runs])
    return Decision(why, remove, abandoned)


def _runs(house: Housekeeping, folder: Folder) -> list[TrackedRun]:
    """Its runs in MLflow: those that name the folder, and the one its training names."""
    runs = {run.run_id: run for run in house.tracked.find(folder.prefix)}
    if folder.holds("train.json"):
        with suppress(ValueError, KeyError, TypeError):
            run_id = str(orjson.loads(house.bucket.get_bytes(f"{folder.prefix}/train.json"))["mlflow_run_id"])
            if run_id not in runs and (run := house.tracked.get(run_id)) is not None:
                runs[run_id] = run
    return list(runs.values())


def _needed(
    house: Housekeeping, connection: Connection, folder: Folder, run_ids: list[str]
) -> tuple[str, tuple[ObjectEntry, ...]]:
    """Why what is kept is kept, or removed is removed; and what to remove."""
    registered = [version for run_id in run_ids for version in house.tracked.versions(run_id)]
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
        if not _held(house.registry, name, number, digest):
            return f"MLflow does not hold the files of version {number} of {name}", ()
    names = ", ".join(number for _, number in recorded)
    return f"version {names} has no alias, and MLflow holds its files", folder.data


def _held(registry: RegistryReader, name: str, version: str, digest: str) -> bool:
    """Whether MLflow gives the very files that are recorded."""
    with scratch.scratch_directory() as directory:
        try:
            files = registry.download(name, version, directory)
            manifest = Manifest.from_json((files / manifests.FILE_NAME).read_bytes())
        except (RegistryUnavailable, ValueError):
            return False
        return manifest.digest() == digest and all(
            hashlib.sha256((files / file).read_bytes()).hexdigest() == expected
            for file, expected in manifest.digests.items()
        )
