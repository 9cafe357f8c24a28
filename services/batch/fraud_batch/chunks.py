"""What passes through an engine: rows as they were read, and the same rows scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud_adapters.models.loading import Model, Scores
from fraud_adapters.transaction_tables import RejectedRow, TableColumns, TableParser
from fraud_core.contract import Contract
from fraud_core.decision import decision_ranks
from fraud_core.features import feature_matrix

Kind = Literal["xgboost", "onnx"]
KINDS: Final[tuple[Kind, ...]] = ("xgboost", "onnx")


@dataclass(frozen=True, slots=True)
class Mark:
    """Which part of the input a chunk is.

    Attributes:
        number: its position among the chunks of the run, from 0.
        end: where the next chunk begins, as the input understands it; it can be written as JSON.
        done: the share of the input up to its end.
        digest: SHA-256 of its content, in hex, where the input has no digest as a whole.
    """

    number: int
    end: Any
    done: float
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of the input, n of them.

    Attributes:
        lines: [n], the lines of the rows.
        malformed: rows that are not part of the table, because they cannot be read as rows.
    """

    mark: Mark
    table: pa.Table
    lines: NDArray[np.int64]
    malformed: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A chunk's valid rows with their scores, m of them, and the others.

    Attributes:
        ids: [m], text.
        ranks: [m], positions of the decisions in `BY_RANK`.
        features: float32 [m, k].
        engine: what computed the scores, with its version.
    """

    mark: Mark
    ids: pa.Array
    lines: NDArray[np.int64]
    scores: NDArray[np.float64]
    ranks: NDArray[np.int8]
    features: NDArray[np.float32]
    engine: str
    rejected: list[RejectedRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """Everything that is needed to score chunks, by value, so that it can be sent to another process.

    Attributes:
        digest: the registered digest of the version's manifest.
        files: the version's files by name, the manifest among them.
        kind: the engine that computes the scores.
        origin, first_line: see `TableParser`.
    """

    contract: Contract
    version: str
    digest: str
    files: dict[str, bytes]
    kind: Kind
    columns: TableColumns
    origin: str
    first_line: int


class ChunkScorer:
    """Scores chunks by one model version; safe to use from several threads."""

    def __init__(self, plan: ScoringPlan, model: Model) -> None:
        self._contract = plan.contract
        self._kind = plan.kind
        self._model = model
        self._parser = TableParser(plan.contract, plan.columns, plan.origin, plan.first_line)

    @classmethod
    def of(cls, plan: ScoringPlan, directory: Path) -> ChunkScorer:
        """Write the version's files into an empty directory, check and load them.

        Raises:
            ModelRefused: they are not the registered ones, or of another contract.
        """
        for name, content in plan.files.items():
            (directory / name).write_bytes(content)
        return cls(plan, Model.load(directory, plan.digest, plan.contract))

    def score(self, chunk: Chunk) -> ScoredChunk:
        """Parse a chunk's rows by the contract's rules, and score those that are valid."""
        parsed = self._parser.parse(chunk.table, chunk.lines)
        features = feature_matrix(self._contract, parsed.batch)
        scores = self._scores(features)
        manifest = self._model.manifest
        return ScoredChunk(
            mark=chunk.mark,
            ids=parsed.ids,
            lines=parsed.lines,
            scores=scores.values,
            ranks=decision_ranks(scores.values, manifest.threshold, manifest.block_threshold),
            features=features,
            engine=scores.engine,
            rejected=_by_line([*chunk.malformed, *parsed.rejected]),
        )

    def _scores(self, features: NDArray[np.float32]) -> Scores:
        if self._kind == "xgboost" or not len(features):
            return self._model.score_batch(features)
        return self._model.score_few(features)


def _by_line(rejected: Sequence[RejectedRow]) -> list[RejectedRow]:
    return sorted(rejected, key=lambda row: row.line)
