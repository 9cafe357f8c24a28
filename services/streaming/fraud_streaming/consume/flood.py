"""A flood of bad records: past a share of them the fault is hardly the records', and the consumer stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.kafka import Record
from fraud_adapters.postgres.dead_letters import DeadLetter, recent_share

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

WINDOW: Final = 200  # latest records looked at
MINIMUM: Final = 20  # records from which the share of bad ones means something


class PoisonFlood(LastingFailure):
    """Too many records are bad for it to be their fault; nothing of the chunk was moved."""


class FloodGuard:
    """Refuses a chunk when its own share of bad records and that of the latest `window` are over the limit.

    The chunk's own share alone would let records that come a few at a time be dead-lettered for ever, and
    the window's alone would refuse the good ones that follow when the sender has been corrected.

    Args:
        max_share: limit, 0 to 1; 1 refuses nothing.
        window: how many records count, those of the chunk included; a larger chunk counts as a whole.
        minimum: fewer records than that are never refused.
    """

    def __init__(self, max_share: float, window: int = WINDOW, minimum: int = MINIMUM) -> None:
        self._max_share = max_share
        self._window = window
        self._minimum = minimum
        self._before: list[bool] = []  # whether bad, oldest first, without the latest chunk
        self._chunk: list[bool] = []
        self._start: tuple[int, int] | None = None  # where the latest chunk begins

    def seed(self, total: int, bad: int) -> None:
        """Put before what was seen so far `total` records of which `bad` were dead letters.

        Their order is not known. Partitions that come later are so added, each with its past.

        Raises:
            ValueError: there are more bad records than records.
        """
        if not 0 <= bad <= total:
            raise ValueError(f"{bad} of {total} records cannot be bad")
        size = min(total, self._window)
        # Spread evenly, so that those which drop out first are neither all good nor all bad.
        past = [(number + 1) * bad // total > number * bad // total for number in range(total - size, total)]
        self._before = (past + self._before)[-self._window :]

    def admit(self, records: Sequence[Record], bad: Sequence[DeadLetter]) -> None:
        """Let a chunk pass, before it is committed; the same chunk may be asked for again.

        Raises:
            PoisonFlood: the consumer must stop without moving its position.
        """
        if not records:
            return
        start = records[0].partition, records[0].offset
        if start != self._start:
            self._before = (self._before + self._chunk)[-self._window :]
        places = {(letter.partition, letter.offset) for letter in bad}
        chunk = [(record.partition, record.offset) in places for record in records]
        latest = (self._before + chunk)[-max(self._window, len(chunk)) :]
        if len(latest) >= self._minimum and self._over(chunk) and self._over(latest):
            self._chunk, self._start = [], None
            raise PoisonFlood(_sentence(records, bad, latest))
        self._chunk, self._start = chunk, start

    def _over(self, flags: Sequence[bool]) -> bool:
        return sum(flags) > self._max_share * len(flags)


def seeded(
    conn: Connection, topic: str, topic_id: str, positions: Mapping[int, int | None], max_share: float
) -> FloodGuard:
    """A guard that knows what was dead-lettered before `positions`, so that a restart lets no more pass."""
    guard = FloodGuard(max_share)
    with conn, conn.cursor() as cur:
        guard.seed(*recent_share(cur, topic, topic_id, positions, WINDOW))
    return guard


def _sentence(records: Sequence[Record], bad: Sequence[DeadLetter], latest: Sequence[bool]) -> str:
    reason, count = Counter(str(letter.reason) for letter in bad).most_common(1)[0]
    example = next(letter.detail for letter in bad if letter.reason == reason)
    first = records[0]
    return (
        f"{len(bad)} of {len(records)} records of {first.topic} from offset {first.offset} of partition "
        f"{first.partition} cannot be processed ({sum(latest)} of the latest {len(latest)}), {count} of them "
        f"with {reason} ({example}); they were not moved: correct the sender or the contract, or run with "
        "--max-bad-share 1."
    )
