"""Stops the consumer when so many records are bad that the sender or the contract must be wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.kafka import Record
from fraud_adapters.postgres.dead_letters import DeadLetter, recent_share

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

WINDOW: Final = 200  # latest records that are considered
MINIMUM: Final = 20  # with fewer records the share of bad ones is not significant


class PoisonFlood(LastingFailure):
    """The share of bad records exceeds the limit; nothing of the chunk was dead-lettered or committed."""


class FloodGuard:
    """Refuses a chunk if its share of bad records and that of the latest `window` records exceed the limit.

    The share of the chunk alone would never stop a sender whose bad records arrive a few at a time. The share
    of the window alone would refuse good records after the sender has been corrected.

    Args:
        max_share: the limit, 0 to 1; 1 refuses nothing.
        window: how many records are considered, including the chunk; a larger chunk is considered completely.
        minimum: with fewer records nothing is refused.
    """

    def __init__(self, max_share: float, window: int = WINDOW, minimum: int = MINIMUM) -> None:
        self._max_share = max_share
        self._window = window
        self._minimum = minimum
        self._history: list[bool] = []  # whether bad, oldest first, without the latest chunk
        self._chunk: list[bool] = []
        self._start: tuple[int, int] | None = None  # where the latest chunk begins

    def seed(self, total: int, bad: int) -> None:
        """Prepend `total` earlier records, of which `bad` were dead letters, to the history.

        Their order is not known. Partitions that are assigned later are added in this way, each with its
        history.

        Raises:
            ValueError: `bad` exceeds `total`.
        """
        if not 0 <= bad <= total:
            raise ValueError(f"{bad} of {total} records cannot be bad")
        size = min(total, self._window)
        # The bad ones are spread evenly, so that the records that leave the window first are a fair sample.
        past = [(number + 1) * bad // total > number * bad // total for number in range(total - size, total)]
        self._history = (past + self._history)[-self._window :]

    def admit(self, records: Sequence[Record], bad: Sequence[DeadLetter]) -> None:
        """Check a chunk before it is committed; the same chunk may be checked again.

        Raises:
            PoisonFlood: the consumer must stop without moving its position.
        """
        if not records:
            return
        start = records[0].partition, records[0].offset
        if start != self._start:
            self._history = (self._history + self._chunk)[-self._window :]
        bad_offsets = {(letter.partition, letter.offset) for letter in bad}
        chunk = [(record.partition, record.offset) in bad_offsets for record in records]
        latest = (self._history + chunk)[-max(self._window, len(chunk)) :]
        if len(latest) >= self._minimum and self._over(chunk) and self._over(latest):
            self._chunk, self._start = [], None
            raise PoisonFlood(_describe(records, bad, latest))
        self._chunk, self._start = chunk, start

    def _over(self, flags: Sequence[bool]) -> bool:
        return sum(flags) > self._max_share * len(flags)


def guard_from_history(
    conn: Connection, topic: str, topic_id: str, positions: Mapping[int, int | None], max_share: float
) -> FloodGuard:
    """A guard with its history from the table `dead_letters`, so that a restart does not reset the limit."""
    guard = FloodGuard(max_share)
    with conn, conn.cursor() as cur:
        guard.seed(*recent_share(cur, topic, topic_id, positions, WINDOW))
    return guard


def _describe(records: Sequence[Record], bad: Sequence[DeadLetter], latest: Sequence[bool]) -> str:
    reason, count = Counter(str(letter.reason) for letter in bad).most_common(1)[0]
    example = next(letter.detail for letter in bad if letter.reason == reason)
    first = records[0]
    return (
        f"{len(bad)} of {len(records)} records of {first.topic} from offset {first.offset} of partition "
        f"{first.partition} cannot be processed ({sum(latest)} of the latest {len(latest)}), {count} of them "
        f"with {reason} ({example}); none was dead-lettered: correct the sender or the contract, or run with "
        "--max-bad-share 1."
    )
