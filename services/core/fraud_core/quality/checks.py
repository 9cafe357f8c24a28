"""The outcome of a check, and the comparisons that checks share.

A share of rows is compared by the lower end of its interval, so that a few rows in a small window, or the
chance among many features, decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_core.metrics import wilson_interval

Z: Final = 3.290527  # two-sided 99.9 %
Severity = Literal["medium", "high"]
# What is wrong with data is usually medium; these four say that money is decided on wrong or missing data.
HIGH: Final = frozenset({"schema", "freshness", "completeness", "conflicting_ids"})


class Status(StrEnum):
    """The outcomes of a check; the worst of several is the one that comes last."""

    PASSED = "passed"
    INSUFFICIENT = "insufficient"
    WARNED = "warned"
    FAILED = "failed"


_RANK: Final = {status: rank for rank, status in enumerate(Status)}


class Limit(BaseModel):
    """Above `warn` a value is shown, above `fail` people are alerted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warn: float = Field(ge=0)
    fail: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warn > self.fail:
            raise ValueError("warn must not be above fail")
        return self

    def status(self, value: float) -> Status:
        """The status of a value that should be small."""
        if value > self.fail:
            return Status.FAILED
        return Status.WARNED if value > self.warn else Status.PASSED


@dataclass(frozen=True, slots=True)
class Check:
    """A check's outcome.

    Attributes:
        sentence: what was found, with its numbers.
        value: the figure that was compared; bound: what it was compared with; rows: how many it rests on.
        expected: insufficient, and nothing but time is needed, such as the history of a new installation.
    """

    name: str
    status: Status
    sentence: str
    value: float | None = None
    bound: float | None = None
    rows: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    expected: bool = False

    @property
    def severity(self) -> Severity:
        """How bad it is if the check fails."""
        return "high" if self.name in HIGH else "medium"

    @property
    def failed(self) -> bool:
        return self.status is Status.FAILED


def insufficient(name: str, reason: str, *, rows: int | None = None, expected: bool = False) -> Check:
    """A check that cannot be made; the reason is a sentence."""
    return Check(name, Status.INSUFFICIENT, reason, rows=rows, expected=expected)


def worst(statuses: Sequence[Status]) -> Status:
    """The worst of several; passed without any."""
    return max(statuses, key=_RANK.__getitem__, default=Status.PASSED)


def share_status(part: int, whole: int, limit: Limit, usual: float = 0.0) -> Status:
    """The status of a share of rows, above the share that is usual.

    The lower end of the share's interval (Wilson 1927, 99.9 %) counts, not the share itself.
    """
    low, _ = wilson_interval(part, whole, Z)
    return limit.status(max(0.0, low - usual))


def percent(share: float) -> str:
    """A share for a reader: `0.25 %`."""
    return f"{100 * share:.3g} %"


def plural(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
