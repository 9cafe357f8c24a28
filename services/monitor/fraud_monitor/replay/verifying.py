"""Scores stored predictions again, by the recorded version and engine, and compares every bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres.prediction_queries import ScoredVector


class Scores(Protocol):
    @property
    def values(self) -> NDArray[np.float64]: ...


class Replayer(Protocol):
    """A loaded version; see `fraud_adapters.models.loading.Model`. `score_with` raises `ModelRefused`."""

    def score_with(self, engine: str, features: NDArray[np.float32]) -> Scores: ...


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A prediction whose recorded model gives its stored features another score now."""

    scored: ScoredVector
    score: float


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """Predictions of one version and engine that could not be made again, and why."""

    model_version: str
    engine: str
    predictions: int
    reason: str


@dataclass(slots=True)
class Verified:
    """What came of a sample."""

    compared: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    not_replayed: list[NotReplayed] = field(default_factory=list)


def verify(sample: Sequence[ScoredVector], width: int, load: Callable[[str], Replayer]) -> Verified:
    """Replay a sample.

    Args:
        width: how many features a vector of the contract has.
        load: gives a version, or raises `ModelRefused` if it cannot be loaded; anything else that it raises
            ends the verification.
    """
    result = Verified()
    groups: dict[str, dict[str, list[ScoredVector]]] = defaultdict(lambda: defaultdict(list))
    for scored in sample:
        groups[scored.model_version][scored.engine].append(scored)
    for version, by_engine in sorted(groups.items()):
        try:
            model = load(version)
        except ModelRefused as error:
            result.not_replayed += [
                NotReplayed(version, engine, len(rows), str(error)) for engine, rows in by_engine.items()
            ]
            continue
        for rows in by_engine.values():
            _compare(result, model, width, rows)
    return result


def _compare(result: Verified, model: Replayer, width: int, rows: Sequence[ScoredVector]) -> None:
    """Compare the predictions of one version and engine."""
    version, engine = rows[0].model_version, rows[0].engine
    own = [scored for scored in rows if len(scored.feature_vector) == width]
    if len(own) < len(rows):
        reason = f"Their vectors have not the contract's {width} features."
        result.not_replayed.append(NotReplayed(version, engine, len(rows) - len(own), reason))
    if not own:
        return
    features = np.array([scored.feature_vector for scored in own], dtype=np.float32)
    try:
        scores = model.score_with(engine, features).values
    except ModelRefused as error:
        result.not_replayed.append(NotReplayed(version, engine, len(own), str(error)))
        return
    result.compared += len(own)
    result.mismatches += [
        Mismatch(scored, score)
        for scored, score in zip(own, scores.tolist(), strict=True)
        if score != scored.score
    ]
