"""The folder of a run in the object store: what was asked for, the finished parts, the report and the result.

A part's files are written before its JSON, and its JSON only after all its predictions are stored. Whoever
resumes the run goes on behind the last JSON, so nothing is left out, and nothing is kept twice: the files of
an unfinished part are overwritten, and predictions of the table are stored once a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pyarrow as pa
from pyarrow import ipc

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore import ObjectMissing, ObjectStore
from fraud_batch.tally import Tally

REQUEST: Final = "request.json"
REPORT: Final = "report.json"
REPORT_PAGE: Final = "report.html"
RESULT: Final = "result.json"
REJECTS: Final = "rejects.csv"
SCORES: Final = "scores"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part of the run: the chunk of this number.

    Attributes:
        end: where the next chunk begins.
        input_digest: of the chunk's content; empty where the input has a digest as a whole.
        output_digest: SHA-256 of its scores, in hex.
    """

    number: int
    end: Any
    done: float
    input_digest: str
    output_digest: str
    tally: Tally
    engine: str  # what computed the scores
    seconds: float  # that it took behind the part before it

    def to_json(self) -> bytes:
        return orjson.dumps(
            {
                "number": self.number,
                "end": self.end,
                "done": self.done,
                "input_digest": self.input_digest,
                "output_digest": self.output_digest,
                "tally": self.tally.to_mapping(),
                "engine": self.engine,
                "seconds": self.seconds,
            }
        )

    @classmethod
    def from_json(cls, content: bytes) -> Part:
        values = orjson.loads(content)
        return cls(**{**values, "tally": Tally.from_mapping(values["tally"])})


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`prefix` is the folder's key; the names of files are relative to it."""

    store: ObjectStore
    prefix: str

    def address(self, name: str) -> str:
        return f"s3://{self.store.bucket}/{self.prefix}/{name}"

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON document, or None if there is none."""
        try:
            content: dict[str, Any] = orjson.loads(self.store.get_bytes(self._key(name)))
        except ObjectMissing:
            return None
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        self.write(name, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def write(self, name: str, content: bytes) -> None:
        self.store.put_bytes(self._key(name), content)

    def parts(self) -> list[Part]:
        """The finished parts in their order.

        Raises:
            LastingFailure: one of them is missing.
        """
        keys = [key for key in self.store.list(f"{self.prefix}/parts/") if key.endswith(".json")]
        parts = [Part.from_json(self.store.get_bytes(key)) for key in keys]
        if [part.number for part in parts] != list(range(len(parts))):
            raise LastingFailure(f"Parts of {self.prefix} are missing: take another --run-id.")
        return parts

    def finish(self, part: Part) -> None:
        self.write(f"parts/{part.number:06d}.json", part.to_json())

    def write_table(self, number: int, kind: str, table: pa.Table) -> str:
        """Store a table of a part; returns its SHA-256 in hex."""
        sink = pa.BufferOutputStream()
        with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_table(table)
        content = sink.getvalue().to_pybytes()
        self.write(f"parts/{number:06d}.{kind}.arrow", content)
        return hashlib.sha256(content).hexdigest()

    def tables(self, parts: Sequence[Part], kind: str) -> Iterator[pa.Table]:
        """The tables of parts, one after the other."""
        for part in parts:
            content = self.store.get_bytes(self._key(f"parts/{part.number:06d}.{kind}.arrow"))
            if kind == SCORES and hashlib.sha256(content).hexdigest() != part.output_digest:
                raise LastingFailure(
                    f"{self.prefix}/parts/{part.number:06d}.{kind}.arrow was changed after it was written: "
                    "take another --run-id."
                )
            yield ipc.open_stream(content).read_all()

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"
