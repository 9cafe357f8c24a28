"""Two models on the same transactions: whose decisions differ, and who is right where labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fraud_core.canary.evidence import Paired
from fraud_core.canary.paired import difference_interval
from fraud_core.decision import BY_RANK, Decision


@dataclass(frozen=True, slots=True)
class Difference:
    """A share of the candidate's less the champion's, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ChangedDecision:
    """Transactions that get `candidate` instead of `champion`; `amount` is their sum, None if unknown."""

    champion: Decision
    candidate: Decision
    rows: int
    amount: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Decisions on the same transactions.

    Attributes:
        changes: those that differ, the most frequent first.
        milder, stricter: how many move away from, and towards, a block.
    """

    rows: int
    champion_flagged: int
    candidate_flagged: int
    milder: int
    stricter: int
    changes: tuple[ChangedDecision, ...]

    @property
    def changed(self) -> int:
        return self.milder + self.stricter

    @property
    def share(self) -> float | None:
        return _share(self.changed, self.rows)


def paired_counts(
    labels: NDArray[np.int8], champion: NDArray[np.bool_], candidate: NDArray[np.bool_]
) -> Paired:
    """Count who flags what; `labels` (1 is fraud) and what each model flags have shape [n].

    Raises:
        ValueError: the shapes differ.
    """
    if not labels.shape == champion.shape == candidate.shape:
        raise ValueError(f"labels have shape {labels.shape}, flags {champion.shape} and {candidate.shape}")
    fraud = labels.astype(bool)

    def count(rows: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(rows))

    both, only_champion, only_candidate = champion & candidate, champion & ~candidate, candidate & ~champion
    return Paired(
        frauds=count(fraud),
        both=count(both & fraud),
        champion_only=count(only_champion & fraud),
        candidate_only=count(only_candidate & fraud),
        legitimate=count(~fraud),
        false_both=count(both & ~fraud),
        false_champion_only=count(only_champion & ~fraud),
        false_candidate_only=count(only_candidate & ~fraud),
    )


def paired_difference(gained: int, lost: int, trials: int, confidence: float) -> Difference | None:
    """The difference of two shares on the same trials; None without trials.

    Args:
        gained: trials that only the second model has.
        lost: trials that only the first model has.
    """
    if not trials:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    first_only, second_only, pairs = (np.array([float(count)]) for count in (gained, lost, trials))
    low, high = difference_interval(first_only, second_only, pairs, z)
    return Difference((gained - lost) / trials, float(low[0]), float(high[0]))


def agreement(
    champion: NDArray[np.int8], candidate: NDArray[np.int8], amounts: NDArray[np.float64] | None
) -> Agreement:
    """Compare decisions, given as positions in `BY_RANK`; all shapes are [n].

    Raises:
        ValueError: the shapes differ.
    """
    if champion.shape != candidate.shape or (amounts is not None and amounts.shape != champion.shape):
        raise ValueError(f"decisions have shapes {champion.shape} and {candidate.shape}, or amounts another")
    changes = []
    for before, after in ((one, other) for one in range(len(BY_RANK)) for other in range(len(BY_RANK))):
        rows = (champion == before) & (candidate == after)
        if before == after or not rows.any():
            continue
        amount = None if amounts is None else float(np.nansum(amounts[rows]))
        changes.append(ChangedDecision(BY_RANK[before], BY_RANK[after], int(np.count_nonzero(rows)), amount))
    return Agreement(
        rows=len(champion),
        champion_flagged=int(np.count_nonzero(champion)),
        candidate_flagged=int(np.count_nonzero(candidate)),
        milder=int(np.count_nonzero(candidate < champion)),
        stricter=int(np.count_nonzero(candidate > champion)),
        changes=tuple(sorted(changes, key=lambda change: -change.rows)),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
