"""The results of the verbs of `fraud_streaming`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Latency(TypedDict):
    """Milliseconds from a record's timestamp to its commit."""

    p50: float
    p99: float


class TopicResult(TypedDict):
    """The counts of one topic."""

    consumed: int
    stored: int
    replayed: int
    dead_lettered: dict[str, int]  # by reason
    batches: int
    seconds: float
    latency_ms: Latency | None  # None if nothing was stored
    lag: int | None  # None if no fetch has shown the end of the topic in time


class FollowResult(TopicResult):
    """`run --follow`: the transactions topic, and the labels topic."""

    status: Literal["done"]
    labels: TopicResult


class RunResult(FollowResult):
    """`run`: both topics, once."""

    classes_refreshed: int
    alerts_published: int
    stalled_holders_ended: list[str]  # "<topic>/<partition>"


class PartitionState(TypedDict):
    """A partition's offsets; the last three keys exist for consumed topics only."""

    partition: int
    earliest: int
    end: int
    position: NotRequired[int | None]  # None if it was never read
    lag: NotRequired[int | None]  # None if the position belongs to a deleted topic of this name
    same_topic: NotRequired[bool]


class ShownRecord(TypedDict):
    """A record as text, truncated if it is long; `damage` and `detail` exist if it cannot be read."""

    partition: int
    offset: int
    timestamp: str | None
    key: str
    headers: dict[str, str]
    value: str
    value_bytes: int
    damage: NotRequired[str]
    detail: NotRequired[str | None]


class TopicState(TypedDict):
    """A topic; only the first three keys exist if the topic does not."""

    topic: str
    exists: bool
    consumed: bool  # by this platform
    id: NotRequired[str]
    lag: NotRequired[int | None]  # the sum over the partitions, None if one is unknown; for consumed topics
    partitions: NotRequired[list[PartitionState]]
    records: NotRequired[list[ShownRecord]]


class TopicsResult(TypedDict):
    """`topics`: how far each was read, and its latest records."""

    topics: list[TopicState]
    alerts_waiting: int


class TopicsCreatedResult(TypedDict):
    """`topics --create`."""

    status: Literal["done"]
    topics: list[str]
    created: list[str]  # those of them that did not exist


class ShownDeadLetter(TypedDict):
    """A dead letter, without its payload."""

    id: int
    origin: str  # "<topic>/<partition>/<offset>"
    reason: str
    detail: str | None
    payload_bytes: int
    complete: bool  # whether the whole record is kept
    created_at: str
    redriven_from: str | None
    redriven_at: str | None


class DeadLettersResult(TypedDict):
    """`dead-letters`: the newest ones, and how many there are."""

    total: int
    by_reason: dict[str, int]
    dead_letters: list[ShownDeadLetter]


class ExportResult(TypedDict):
    """`dead-letters --export`."""

    exported: int
    incomplete: int  # how many of them cannot be put back unchanged
    file: str


class RefusedDeadLetter(TypedDict):
    """A dead letter that cannot be put back."""

    id: int
    why: str


class RedriveResult(TypedDict):
    """`redrive`: dead letters that were put back, or with `--dry-run` would have been."""

    status: Literal["done"]
    dry_run: bool
    sent: int
    already_redriven: int
    refused: dict[str, int]  # by reason
    refused_letters: list[RefusedDeadLetter]  # the first of them
