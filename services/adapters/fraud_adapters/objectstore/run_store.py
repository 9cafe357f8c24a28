"""The files that the steps of a run exchange: Parquet and JSON under `runs/<dag>/<run_id>/`.

Each step's JSON names its run and holds the digest of the previous step's JSON. Later steps therefore detect
a step that was repeated, a file that was edited, and a file that was copied from another run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore import ObjectMissing

ROOT: Final = "runs/"
_RUN: Final = "_run"
_FOLLOWS: Final = "_follows"


class Store(Protocol):
    """One bucket; `get_bytes` raises `ObjectMissing`."""

    def put_bytes(self, key: str, content: bytes) -> None: ...

    def get_bytes(self, key: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step: its outcome, and its JSON, whose SHA-256 covers all previous steps."""

    name: str
    content: bytes
    outcome: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def __getitem__(self, field: str) -> Any:
        if field not in self.outcome:
            raise LastingFailure(f"{self.name}.json holds no {field}: run {self.name} again.")
        return self.outcome[field]


@dataclass(frozen=True, slots=True)
class RunStore:
    """The folder of one run. A step writes its files first and then its JSON, which holds their digests.

    `steps` are the names of the steps in their order; each one uses the output of the previous one.
    """

    store: Store
    dag: str
    run_id: str
    steps: Sequence[str]

    @property
    def prefix(self) -> str:
        return f"{ROOT}{_folder(self.dag)}/{_folder(self.run_id)}"

    def put(self, name: str, content: bytes) -> str:
        """Store a file; returns its SHA-256 in hex."""
        self.store.put_bytes(f"{self.prefix}/{name}", content)
        return hashlib.sha256(content).hexdigest()

    def get(self, name: str, digest: str) -> bytes:
        """Read a file back.

        Raises:
            LastingFailure: its digest is not the one that the earlier step recorded.
        """
        content = self.read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise LastingFailure(
                f"{self.prefix}/{name} was changed after it was written: its digest differs."
            )
        return content

    def put_table(self, name: str, table: pa.Table) -> str:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return self.put(name, sink.getvalue().to_pybytes())

    def get_table(self, name: str, digest: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.get(name, digest)))

    def seal(self, name: str, outcome: Mapping[str, Any], follows: Step | None = None) -> Step:
        """A step's outcome, bound to this run and to the previous step; not stored yet."""
        bound = {**outcome, _RUN: self.prefix, _FOLLOWS: follows.digest if follows else None}
        return Step(name, orjson.dumps(bound, option=orjson.OPT_SORT_KEYS), outcome)

    def finish(self, step: Step) -> None:
        """Store a step's outcome, from which later steps find its files."""
        self.put(f"{step.name}.json", step.content)

    def step(self, name: str) -> Step:
        """The outcome of an earlier step, after checking the digests of all steps before it.

        Raises:
            LastingFailure: the step was not run, did not finish, is of another run, or is older than a
                previous step.
        """
        step, follows = self._parsed(name)
        position = self.steps.index(name)
        if position and follows != self.step(self.steps[position - 1]).digest:
            raise LastingFailure(
                f"{self.prefix}/{name}.json does not follow from {self.steps[position - 1]}.json "
                f"as it is now: run {name} again."
            )
        return step

    def _parsed(self, name: str) -> tuple[Step, str | None]:
        content = self.read(f"{name}.json")
        try:
            outcome = dict(orjson.loads(content))
            run, follows = outcome.pop(_RUN), outcome.pop(_FOLLOWS)
        except (ValueError, TypeError, KeyError):
            raise LastingFailure(
                f"{self.prefix}/{name}.json is not what {name} writes: run it again."
            ) from None
        if run != self.prefix:
            raise LastingFailure(f"{self.prefix}/{name}.json is of the run {run}: run {name} again.")
        return Step(name, content, outcome), follows

    def read(self, name: str) -> bytes:
        """A file of this run; raises LastingFailure if it is missing."""
        try:
            return self.store.get_bytes(f"{self.prefix}/{name}")
        except ObjectMissing:
            step = name.partition(".")[0]
            raise LastingFailure(
                f"{self.prefix}/{name} is missing: run the step before it first (looked for {step}), or take "
                "another run id where the files of an old run were removed."
            ) from None


def _folder(name: str) -> str:
    """A folder name that is unique for `name`; a slash in a run id would otherwise create two folders."""
    if not name.strip("."):
        raise LastingFailure(f"A DAG or run cannot be called {name!r}: use letters and digits.")
    return quote(name, safe="=+:@")
