"""Signed heads of the audit log in the object store: published every minute, and verified against the log.

A head is only ever added. Neither the database nor its administrator has the key, so what was published
cannot be made to fit a log that was changed afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres.audit_entries import is_publisher, read_chain
from fraud_core.audit_chain import (
    BrokenChain,
    End,
    Head,
    follow,
    next_head,
    problems_of_heads,
    problems_of_log,
    staleness,
)

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

PREFIX: Final = "audit/heads/"
PUBLISH_SECONDS: Final = 60.0
# A head is published this often even if nothing was added, so that it shows how long the log was as it is.
HEARTBEAT: Final = timedelta(hours=1)
STALE_AFTER: Final = timedelta(minutes=10)


class HeadStore(Protocol):
    """The bucket; `get_bytes` raises `ObjectMissing`."""

    def put_bytes(self, key: str, content: bytes) -> None: ...

    def get_bytes(self, key: str) -> bytes: ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str = "") -> Sequence[str]: ...


class HeadsUnusable(LastingFailure):
    """The published heads or the log are not what they should be: no head may be added. One sentence."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of a verification; `problems` are sentences without a full stop."""

    entries: int
    heads: int
    last_head: Head | None
    problems: Sequence[str]


class HeadPublisher:
    """Adds a head whenever the log has grown. One call a minute; several processes may call it.

    Args:
        key: which the database must not know.
    """

    def __init__(self, store: HeadStore, key: bytes) -> None:
        self._store = store
        self._key = key
        self._last: Head | None = None

    def publish(self, cursor: Cursor, now: datetime) -> Head | None:
        """Publish the end of the log, in the cursor's transaction.

        What was added since the last head is checked first, so that no head vouches for a log that was
        changed in the meantime.

        Returns:
            The new head; None if there is nothing to add, or another process is publishing.

        Raises:
            HeadsUnusable: the log does not follow from the last head, or the heads are not whole.
            ObjectStoreUnavailable: the store does not answer.
            psycopg2.Error: the log cannot be read.
        """
        if not is_publisher(cursor):
            return None
        last = self._read_last()
        end = self._follow(cursor, last)
        if end.entry_id == 0 or (
            last is not None and end.entry_id == last.entry_id and now - last.published_at < HEARTBEAT
        ):
            return None
        head = next_head(self._key, end, last, now)
        self._store.put_bytes(key_of(head.number), head.to_json())
        self._last = head
        return head

    def _read_last(self) -> Head | None:
        """The last head, by whichever process it was published."""
        if self._last is None:
            keys = [key for key in self._store.list(PREFIX) if key.endswith(".json")]
            if not keys:
                return None
            self._last = self._read(max(keys))
        while self._store.exists(following := key_of(self._last.number + 1)):
            self._last = self._read(following)
        return self._last

    def _read(self, key: str) -> Head:
        try:
            head = Head.from_json(self._store.get_bytes(key))
        except ValueError as error:
            raise HeadsUnusable(f"{key}: {error}.") from None
        if not head.is_signed_by(self._key) or key != key_of(head.number):
            raise HeadsUnusable(f"{key} is not a head that this key has signed.")
        return head

    def _follow(self, cursor: Cursor, last: Head | None) -> End:
        """The end of the log, which follows from the last head."""
        end = End() if last is None else End(last.entry_id, bytes.fromhex(last.entry_hash))
        if last is not None:
            # From the entry itself on: its hash must still be the one that was vouched for.
            vouched = next(iter(read_chain(cursor, last.entry_id - 1)), None)
            if vouched is None or vouched.entry_id != last.entry_id:
                raise HeadsUnusable(
                    f"Entry {last.entry_id} of the audit log is missing; head {last.number} vouches for it."
                )
            if vouched.entry_hash != end.entry_hash:
                raise HeadsUnusable(
                    f"Entry {last.entry_id} of the audit log is not the one of head {last.number}."
                )
        try:
            return deque(follow(read_chain(cursor, end.entry_id), end), maxlen=1).pop()
        except IndexError:  # nothing was added
            return end
        except BrokenChain as broken:
            raise HeadsUnusable(f"The audit log is broken at {broken}.") from None


def verify(cursor: Cursor, store: HeadStore, key: bytes, now: datetime) -> Verification:
    """Check the whole log against its own chain and against every head that was published.

    Raises:
        ObjectStoreUnavailable: the store does not answer.
        psycopg2.Error: the log cannot be read.
    """
    heads: list[Head] = []
    problems: list[str] = []
    for name in sorted(name for name in store.list(PREFIX) if name.endswith(".json")):
        try:
            heads.append(Head.from_json(store.get_bytes(name)))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    problems += problems_of_heads(key, heads)
    trusted = [head for head in heads if head.is_signed_by(key)]
    of_log, end = problems_of_log(read_chain(cursor), trusted)
    problems += of_log
    if not of_log and (stale := staleness(trusted, end, now, most=STALE_AFTER, heartbeat=HEARTBEAT)):
        problems.append(stale)
    return Verification(end.entry_id, len(heads), trusted[-1] if trusted else None, problems)


def key_of(number: int) -> str:
    """The object of a head; keys are in the order of their numbers."""
    return f"{PREFIX}{number:012d}.json"
