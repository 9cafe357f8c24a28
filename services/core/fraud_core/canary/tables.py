"""The evidence of n stages as arrays, so that one function judges one stage or thousands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_core.canary.evidence import Arm, Evidence, LiveLabels, Paired

Floats = NDArray[np.float64]


def _column(values: Sequence[int | float]) -> Floats:
    return np.array(values, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ArmTable:
    """Arms of n stages: each count has shape [n], `scores` [n, SCORE_BINS]. See `evidence.Arm`."""

    calls: Floats
    errors: Floats
    slow: Floats
    rows: Floats
    flagged: Floats
    scores: Floats

    @classmethod
    def of(cls, arms: Sequence[Arm]) -> ArmTable:
        return cls(
            calls=_column([arm.calls for arm in arms]),
            errors=_column([arm.errors for arm in arms]),
            slow=_column([arm.slow for arm in arms]),
            rows=_column([arm.rows for arm in arms]),
            flagged=_column([arm.flagged for arm in arms]),
            scores=np.array([arm.scores for arm in arms], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True)
class TrafficTable:
    """Both arms of n stages, and the planned share of the canary, [n]."""

    control: ArmTable
    canary: ArmTable
    share: Floats

    @classmethod
    def of(cls, evidence: Sequence[Evidence]) -> TrafficTable:
        return cls(
            control=ArmTable.of([one.control for one in evidence]),
            canary=ArmTable.of([one.canary for one in evidence]),
            share=_column([one.share for one in evidence]),
        )


@dataclass(frozen=True, slots=True)
class PairedTable:
    """Paired counts of n rollouts, each [n]; without pairs all are 0. See `evidence.Paired`."""

    frauds: Floats
    champion_only: Floats
    candidate_only: Floats
    legitimate: Floats
    false_champion_only: Floats
    false_candidate_only: Floats

    @classmethod
    def of(cls, paired: Sequence[Paired | None]) -> PairedTable:
        known = [one or Paired(0, 0, 0, 0, 0, 0, 0, 0) for one in paired]
        return cls(
            frauds=_column([one.frauds for one in known]),
            champion_only=_column([one.champion_only for one in known]),
            candidate_only=_column([one.candidate_only for one in known]),
            legitimate=_column([one.legitimate for one in known]),
            false_champion_only=_column([one.false_champion_only for one in known]),
            false_candidate_only=_column([one.false_candidate_only for one in known]),
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """Hits among labelled transactions of n stages, each [n]: caught frauds, or false alarms."""

    hits: Floats
    total: Floats


@dataclass(frozen=True, slots=True)
class LiveTable:
    """One rate in both arms."""

    control: Rate
    canary: Rate

    @classmethod
    def of_recall(cls, live: Sequence[LiveLabels]) -> LiveTable:
        return cls(
            *(
                Rate(_column([arm.caught for arm in arms]), _column([arm.frauds for arm in arms]))
                for arms in ([one.control for one in live], [one.canary for one in live])
            )
        )

    @classmethod
    def of_fpr(cls, live: Sequence[LiveLabels]) -> LiveTable:
        return cls(
            *(
                Rate(_column([arm.false_alarms for arm in arms]), _column([arm.legitimate for arm in arms]))
                for arms in ([one.control for one in live], [one.canary for one in live])
            )
        )
