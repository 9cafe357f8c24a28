"""The table `model_versions`: the digest of each version's files, and the verdict of its gate.

A service loads only a version that is recorded here, whose files have the recorded digest and whose gate was
passed. A row is written before an alias can refer to its version, and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from psycopg2.extras import Json

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """What a service must know of a version before it serves it: its manifest's digest, and the verdict."""

    digest: str
    contract: str
    gate_policy: str
    gate_passed: bool
    gate_outcome: Any
    metrics: Any


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A row as it is written when a version is registered; the fields are the columns."""

    name: str
    version: str
    mlflow_run_id: str
    contract: str
    digest: str
    gate_policy: str
    gate_passed: bool
    gate_outcome: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    threshold: float
    block_threshold: float
    data_from: datetime
    data_to: datetime
    created_at: datetime
    origin: Literal["trained", "imported"]
    data_digest: str
    code_version: str
    parent_run: str  # the folder of the run that made it
    labels_as_of: datetime | None = None  # None if the version was not trained with this platform's labels


@dataclass(frozen=True, slots=True)
class LastTraining:
    """The last training with this platform's labels: its end, the cut-off for its labels, its gate."""

    finished_at: datetime
    labels_as_of: datetime
    gate_passed: bool


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """What is shown of a version: its verdict, its data and where it comes from; the fields are the columns.

    Versions that were recorded before lineage was have None in the last three.
    """

    version: str
    digest: str
    contract: str
    gate_policy: str
    gate_passed: bool
    gate_outcome: Any
    metrics: Any
    threshold: float
    block_threshold: float
    data_from: datetime | None
    data_to: datetime | None
    created_at: datetime
    origin: str
    mlflow_run_id: str | None
    data_digest: str | None
    code_version: str | None
    parent_run: str | None


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """By what and how a version was judged."""

    version: str
    digest: str
    gate_policy: str
    gate_passed: bool


def lock_registration(cursor: Cursor, mlflow_run_id: str) -> None:
    """Serialise registrations of the same MLflow run; the lock ends with the connection."""
    cursor.execute("SELECT pg_advisory_lock(hashtextextended('register ' || %s, 0))", (mlflow_run_id,))


def record_version(cursor: Cursor, version: NewVersion) -> None:
    """Write a version's row; an existing row stays unchanged."""
    row = {name: getattr(version, name) for name in _COLUMNS}
    cursor.execute(_INSERT, row | {name: Json(row[name]) for name in ("gate_outcome", "metrics")})


def read_version(cursor: Cursor, name: str, version: str) -> VersionRecord | None:
    """The record of a version, or None if it is not recorded."""
    cursor.execute(
        "SELECT digest, contract, gate_policy, gate_passed, gate_outcome, metrics FROM model_versions"
        " WHERE name = %s AND version = %s",
        (name, version),
    )
    row = cursor.fetchone()
    return VersionRecord(*row) if row else None


def read_versions(cursor: Cursor, name: str, limit: int) -> list[VersionSummary]:
    """The latest versions of a model, the newest first."""
    cursor.execute(
        f"SELECT {', '.join(field.name for field in fields(VersionSummary))} FROM model_versions"  # noqa: S608
        " WHERE name = %s ORDER BY created_at DESC, length(version) DESC, version DESC LIMIT %s",
        (name, limit),
    )
    return [VersionSummary(*row) for row in cursor.fetchall()]


def read_verdicts(
    cursor: Cursor, name: str, mlflow_run_id: str, version: str | None
) -> list[RecordedVerdict]:
    """The verdicts on those versions of a model that were made of this MLflow run, or have this number."""
    cursor.execute(
        "SELECT version, digest, gate_policy, gate_passed FROM model_versions"
        " WHERE name = %s AND (mlflow_run_id = %s OR version = %s)",
        (name, mlflow_run_id, version),
    )
    return [RecordedVerdict(*row) for row in cursor.fetchall()]


def last_training(cursor: Cursor, name: str) -> LastTraining | None:
    """The last training that became a version of the model, whether or not the version passed its gate."""
    cursor.execute(
        "SELECT created_at, labels_as_of, gate_passed FROM model_versions"
        " WHERE name = %s AND labels_as_of IS NOT NULL ORDER BY created_at DESC LIMIT 1",
        (name,),
    )
    row = cursor.fetchone()
    return LastTraining(*row) if row else None


def versions_of_contract(cursor: Cursor, contract: str) -> list[str]:
    """The versions that were made for a contract, so that their predictions have its features."""
    cursor.execute("SELECT DISTINCT version FROM model_versions WHERE contract = %s", (contract,))
    return [version for (version,) in cursor.fetchall()]


def read_digests(cursor: Cursor, mlflow_run_ids: Sequence[str]) -> dict[tuple[str, str], str]:
    """The digests of all versions made of these MLflow runs, by name and number."""
    cursor.execute(
        "SELECT name, version, trim(digest) FROM model_versions WHERE mlflow_run_id = ANY (%s)",
        (list(mlflow_run_ids),),
    )
    return {(name, version): digest for name, version, digest in cursor.fetchall()}


_COLUMNS: Final = tuple(field.name for field in fields(NewVersion))
_INSERT: Final = (
    f"INSERT INTO model_versions ({', '.join(_COLUMNS)})"  # noqa: S608
    f" VALUES ({', '.join(f'%({name})s' for name in _COLUMNS)}) ON CONFLICT DO NOTHING"
)
