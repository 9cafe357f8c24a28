"""What the steps of one run hand over: Parquet and JSON under `runs/<dag>/<run_id>/` in the object store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_adapters.job import JobFailed
from fraud_adapters.objectstore import ObjectMissing


class Store(Protocol):
    """One bucket; `get_bytes` raises `ObjectMissing`."""

    def put_bytes(self, key: str, content: bytes) -> None: ...

    def get_bytes(self, key: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class RunStore:
    """The folder of one run. A step writes its files first and last its JSON, which holds their digests."""

    store: Store
    dag: str
    run_id: str

    @property
    def prefix(self) -> str:
        return f"runs/{_folder(self.dag)}/{_folder(self.run_id)}"

    def put(self, name: str, content: bytes) -> str:
        """Store a file; its SHA-256 in hex."""
        self.store.put_bytes(f"{self.prefix}/{name}", content)
        return hashlib.sha256(content).hexdigest()

    def get(self, name: str, digest: str) -> bytes:
        """Read a file back.

        Raises:
            JobFailed: it is not what the earlier step stored.
        """
        content = self._read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise JobFailed(f"{self.prefix}/{name} was changed after it was written: its digest differs.")
        return content

    def put_table(self, name: str, table: pa.Table) -> str:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return self.put(name, sink.getvalue().to_pybytes())

    def get_table(self, name: str, digest: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.get(name, digest)))

    def finish_step(self, step: str, outcome: dict[str, Any]) -> None:
        """Store a step's outcome, by which the later steps find its files."""
        self.put(f"{step}.json", orjson.dumps(outcome, option=orjson.OPT_SORT_KEYS))

    def step(self, name: str) -> dict[str, Any]:
        """The outcome of an earlier step.

        Raises:
            JobFailed: it has not been run, or did not end.
        """
        outcome: dict[str, Any] = orjson.loads(self._read(f"{name}.json"))
        return outcome

    def _read(self, name: str) -> bytes:
        try:
            return self.store.get_bytes(f"{self.prefix}/{name}")
        except ObjectMissing:
            step = name.partition(".")[0]
            raise JobFailed(
                f"{self.prefix}/{name} is missing: run the step before it first (looked for {step})."
            ) from None


def _folder(name: str) -> str:
    """One folder for one name. Airflow's run ids hold colons and plus signs; a slash would make two."""
    if not name.strip("."):
        raise JobFailed(f"A DAG or run cannot be called {name!r}: use letters and digits.")
    return quote(name, safe="=+:@")
