"""Checks that what is stored, and what the model sees, is what the contract says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fraud_core.quality.checks import Check, Status, insufficient, plural


@dataclass(frozen=True, slots=True)
class SchemaEvidence:
    """What was counted in the window.

    Attributes:
        rows: transactions; foreign: those of another contract.
        absent: by field, rows without a value that is required; beyond: by field, rows out of its range.
        vectors: predictions; odd_vectors: those whose feature vector is not as long as the contract says, or
            that hold a null.
        champion: its features in order, None if there is no champion.
    """

    rows: int
    foreign: int
    absent: Mapping[str, int]
    beyond: Mapping[str, int]
    vectors: int
    odd_vectors: int
    champion: Sequence[str] | None


def schema(evidence: SchemaEvidence, features: Sequence[str]) -> Check:
    """Whether every row has the contract's fields in range, and every vector the contract's features."""
    name = "schema"
    problems = [
        f"{plural(count, 'row')} of {what}"
        for what, count in [
            ("another contract", evidence.foreign),
            *((f"{field} without a value", count) for field, count in evidence.absent.items()),
            *((f"{field} out of its range", count) for field, count in evidence.beyond.items()),
            (f"another number of features than {len(features)}", evidence.odd_vectors),
        ]
        if count
    ]
    if evidence.champion is not None and (difference := _difference(evidence.champion, features)):
        problems.append(difference)
    if problems:
        return Check(
            name,
            Status.FAILED,
            f"{'; '.join(problems)}.",
            value=float(len(problems)),
            bound=0.0,
            rows=evidence.rows,
            details={
                "foreign": evidence.foreign,
                "absent": {field: count for field, count in evidence.absent.items() if count},
                "beyond": {field: count for field, count in evidence.beyond.items() if count},
                "odd_vectors": evidence.odd_vectors,
            },
        )
    if not evidence.rows and not evidence.vectors:
        return insufficient(name, "No transaction arrived in the window.", rows=0)
    known = "" if evidence.champion is None else ", as the champion"
    return Check(
        name,
        Status.PASSED,
        f"{plural(evidence.rows, 'row')} have all {len(features)} features of the contract{known}, "
        "in their ranges.",
        value=0.0,
        bound=0.0,
        rows=evidence.rows,
    )


def _difference(champion: Sequence[str], features: Sequence[str]) -> str | None:
    if list(champion) == list(features):
        return None
    missing = [name for name in features if name not in champion]
    other = [name for name in champion if name not in features]
    parts = [f"the champion lacks {', '.join(missing)}"] if missing else []
    parts += [f"the champion has {', '.join(other)}, which the contract has not"] if other else []
    return "; ".join(parts) or "the champion has the contract's features in another order"
