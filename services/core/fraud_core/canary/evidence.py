"""What a release is judged by: counts of both arms in one stage, and labelled transactions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

SCORE_BINS: Final = 20  # of equal width over [0, 1]


def _check_counts(counts: object) -> None:
    """Raise ValueError with one sentence if a count is negative."""
    kind = type(counts).__name__
    for field in fields(counts):  # type: ignore[arg-type]  # every caller is a dataclass
        value = getattr(counts, field.name)
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{kind}.{field.name} must be at least 0, got {value}.")


def _check_part(kind: str, part: str, value: int, whole: str, most: int) -> None:
    if value > most:
        raise ValueError(f"{kind}: {part} ({value}) must be at most {whole} ({most}).")


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm in one stage so far, summed over replicas and time.

    Attributes:
        calls: scoring calls; a call scores the rows of one request that belong to the arm.
        errors: calls in which the arm's model failed; the champion then answered.
        slow: calls that took longer than `JudgementRules.max_latency_ms`.
        rows: transactions that were assigned to the arm.
        flagged: of them, those with a score of at least the model's own threshold.
        scores: histogram of the arm's own scores, `SCORE_BINS` bins; sums to the rows that its model scored.

    Raises:
        ValueError: a count is negative, or a part is more than its whole.
    """

    calls: int = 0
    errors: int = 0
    slow: int = 0
    rows: int = 0
    flagged: int = 0
    scores: tuple[int, ...] = (0,) * SCORE_BINS

    def __post_init__(self) -> None:
        _check_counts(self)
        if len(self.scores) != SCORE_BINS or min(self.scores) < 0:
            raise ValueError(f"Arm.scores must be {SCORE_BINS} counts of at least 0, got {self.scores}.")
        _check_part("Arm", "errors", self.errors, "calls", self.calls)
        _check_part("Arm", "slow", self.slow, "calls", self.calls)
        _check_part("Arm", "flagged", self.flagged, "rows", self.rows)
        _check_part("Arm", "the sum of scores", self.scored, "rows", self.rows)

    @property
    def scored(self) -> int:
        """Rows that the arm's own model scored."""
        return sum(self.scores)

    def __add__(self, other: Arm) -> Arm:
        """The counts of both, of another replica or a later time."""
        return Arm(
            calls=self.calls + other.calls,
            errors=self.errors + other.errors,
            slow=self.slow + other.slow,
            rows=self.rows + other.rows,
            flagged=self.flagged + other.flagged,
            scores=tuple(one + two for one, two in zip(self.scores, other.scores, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Paired:
    """Labelled transactions of the mature history, each scored by both models at their own thresholds.

    Attributes:
        frauds: of them `both` were caught by both models, `champion_only` and `candidate_only` by one.
        legitimate: of them `false_both`, … were flagged.

    Raises:
        ValueError: a count is negative, or the parts are more than the whole.
    """

    frauds: int
    both: int
    champion_only: int
    candidate_only: int
    legitimate: int
    false_both: int
    false_champion_only: int
    false_candidate_only: int

    def __post_init__(self) -> None:
        _check_counts(self)
        caught = self.both + self.champion_only + self.candidate_only
        _check_part("Paired", "the frauds caught", caught, "frauds", self.frauds)
        flagged = self.false_both + self.false_champion_only + self.false_candidate_only
        _check_part("Paired", "the legitimate ones flagged", flagged, "legitimate", self.legitimate)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The transactions of one arm with a mature label.

    Attributes:
        frauds: of them `caught` were flagged.
        legitimate: of them `false_alarms` were flagged.

    Raises:
        ValueError: a count is negative, or a part is more than its whole.
    """

    frauds: int
    caught: int
    legitimate: int
    false_alarms: int

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_part("Labelled", "caught", self.caught, "frauds", self.frauds)
        _check_part("Labelled", "false_alarms", self.false_alarms, "legitimate", self.legitimate)


@dataclass(frozen=True, slots=True)
class LiveLabels:
    """What is known of the truth about this stage's traffic."""

    control: Labelled
    canary: Labelled


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Scoring requests that one arm answered.

    Attributes:
        failed: of them, those with a status of 500 or more.
        slow: of them, those that took longer than `JudgementRules.max_latency_ms`.
    """

    requests: int = 0
    failed: int = 0
    slow: int = 0

    def since(self, before: RequestCounts) -> RequestCounts:
        """What was counted since; a count that is smaller now was begun anew, with its process."""
        if self.requests < before.requests:
            return self
        return RequestCounts(
            *(max(0, getattr(self, one.name) - getattr(before, one.name)) for one in fields(RequestCounts))
        )


@dataclass(frozen=True, slots=True)
class Requests:
    """Both arms; None where an arm's metrics cannot be read."""

    control: RequestCounts | None = None
    canary: RequestCounts | None = None

    def since(self, before: Requests) -> Requests:
        """What was counted since; None where either is not known."""
        return Requests(
            *(
                now.since(then) if now is not None and then is not None else None
                for now, then in ((self.control, before.control), (self.canary, before.canary))
            )
        )

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Self:
        return cls(
            *(RequestCounts(**values[arm]) if values.get(arm) else None for arm in ("control", "canary"))
        )

    def to_mapping(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a verdict rests on.

    Attributes:
        control: the champion's arm, at the same time as the canary's.
        share: the planned share of transactions that are assigned to the canary, between 0 and 1.
        paired: None if no mature history was scored by both models.
        live: None if no label of this stage's traffic is mature.
        requests: what clients see of each replica; None if both arms are in every replica.

    Raises:
        ValueError: the share is not between 0 and 1.
    """

    control: Arm
    canary: Arm
    share: float
    paired: Paired | None = None
    live: LiveLabels | None = None
    requests: Requests | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"Evidence.share must be between 0 and 1, got {self.share:g}.")

    def to_mapping(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)
