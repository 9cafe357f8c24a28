"""Verifies the audit log without trusting the database: its hash chain, and signed heads kept outside.

Each entry holds the hash of the one before it, so an edit shows unless all later hashes are computed anew. A
head vouches for the log up to an entry, by a key that the database never sees: a chain that was computed
anew, or whose end was cut off, does not fit the heads that were published before. Heads are chained to each
other too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

GENESIS: Final = hashlib.sha256(b"").digest()  # in the place of an entry before the first one


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the audit log; `details` is the text of its jsonb as Postgres writes it."""

    entry_id: int
    recorded_at: datetime
    actor: str
    db_role: str
    action: str
    subject: str
    details: str
    previous_hash: bytes
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log at a time, and the signature of whoever holds the key.

    Attributes:
        number: heads are counted from 1.
        entry_id, entry_hash: of the last entry; the hash in hex.
        at: when it was published (RFC 3339, UTC).
        previous: the signature of the head before, in hex; empty for the first one.
        signature: HMAC-SHA256 over all other fields, in hex.
    """

    number: int
    entry_id: int
    entry_hash: str
    at: str
    previous: str
    signature: str = ""

    def to_json(self) -> bytes:
        return _canonical(self._content() | {"signature": self.signature})

    @classmethod
    def from_json(cls, content: bytes) -> Head:
        """Read a head.

        Raises:
            ValueError: it is not one.
        """
        try:
            values: Mapping[str, Any] = json.loads(content)
            head = cls(**values)
        except (ValueError, TypeError):
            raise ValueError("it is not a head of the audit log") from None
        if not (type(head.number) is type(head.entry_id) is int) or not all(
            type(text) is str for text in (head.entry_hash, head.at, head.previous, head.signature)
        ):
            raise ValueError("it is not a head of the audit log")
        return head

    def signed(self, key: bytes) -> Head:
        return replace(self, signature=self._signature(key))

    def is_signed_by(self, key: bytes) -> bool:
        return hmac.compare_digest(self.signature.encode(), self._signature(key).encode())

    @property
    def published_at(self) -> datetime:
        return datetime.fromisoformat(self.at)

    def _content(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "entry_id": self.entry_id,
            "entry_hash": self.entry_hash,
            "at": self.at,
            "previous": self.previous,
        }

    def _signature(self, key: bytes) -> str:
        return hmac.new(key, _canonical(self._content()), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class End:
    """The last entry of a chain that was followed so far; before the first one, number 0."""

    entry_id: int = 0
    entry_hash: bytes = GENESIS


class BrokenChain(Exception):
    """The first entry that breaks the chain, and how; `sentence` has no full stop."""

    def __init__(self, entry_id: int, sentence: str) -> None:
        super().__init__(f"entry {entry_id}: {sentence}")
        self.entry_id = entry_id
        self.sentence = sentence


def hash_of(entry: Entry) -> bytes:
    """The hash of an entry's content and of the hash before it, as the database's `audit_hash` has it."""
    moment = entry.recorded_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    texts = (moment, entry.actor, entry.db_role, entry.action, entry.subject)
    # As Postgres writes a jsonb array.
    quoted = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    content = f"[{entry.entry_id}, {quoted}, {entry.details}]"
    return hashlib.sha256(entry.previous_hash + content.encode()).digest()


def follow(entries: Iterable[Entry], end: End = End()) -> Iterable[End]:
    """The end after each entry, which must follow from `end` on without a gap.

    Raises:
        BrokenChain: at the first entry that does not follow.
    """
    for entry in entries:
        if entry.entry_id != end.entry_id + 1:
            if entry.entry_id <= end.entry_id:
                raise BrokenChain(entry.entry_id, "the number occurs twice")
            raise BrokenChain(entry.entry_id, "entries before it are missing")
        if entry.previous_hash != end.entry_hash:
            raise BrokenChain(entry.entry_id, "it does not follow the entry before it")
        if entry.entry_hash != hash_of(entry):
            raise BrokenChain(entry.entry_id, "its content does not match its hash")
        end = End(entry.entry_id, entry.entry_hash)
        yield end


def next_head(key: bytes, end: End, last: Head | None, now: datetime) -> Head:
    """The head for a chain that ends at `end`, to be published after `last`."""
    return Head(
        number=last.number + 1 if last else 1,
        entry_id=end.entry_id,
        entry_hash=end.entry_hash.hex(),
        at=now.astimezone(UTC).isoformat(),
        previous=last.signature if last else "",
    ).signed(key)


def problems_of_heads(key: bytes, heads: Sequence[Head]) -> list[str]:
    """What is wrong with the published heads, in the order of their numbers; sentences without full stop."""
    problems = []
    before: Head | None = None
    for position, head in enumerate(heads, start=1):
        if not head.is_signed_by(key):
            problems.append(f"head {head.number} is not signed by this key: it was changed, or the key was")
        elif before is None and head.number == 1 and head.previous:
            problems.append("head 1 names a head before it")
        elif head.number != (before.number + 1 if before else position):
            problems.append(f"heads before head {head.number} are missing")
        elif before is not None and head.previous != before.signature:
            problems.append(f"head {head.number} does not follow head {before.number}")
        elif before is not None and head.entry_id < before.entry_id:
            problems.append(f"head {head.number} vouches for less than head {before.number}")
        before = head
    return problems


def problems_of_log(entries: Iterable[Entry], heads: Sequence[Head]) -> tuple[list[str], End]:
    """What is wrong with the log, by its own chain and by heads that were checked; and where it ends.

    Returns:
        At most one problem of the chain, and one of the heads; sentences without a full stop.
    """
    vouched = {head.entry_id: head for head in heads}
    differs: str | None = None
    problems: list[str] = []
    end = End()
    try:
        for end in follow(entries):
            head = vouched.get(end.entry_id)
            if differs is None and head is not None and head.entry_hash != end.entry_hash.hex():
                differs = (
                    f"entry {end.entry_id} is not the one that head {head.number} of {head.at} vouches for:"
                    " it or an earlier one was changed, and the chain computed anew"
                )
    except BrokenChain as broken:
        problems.append(f"the log is broken at entry {broken.entry_id}: {broken.sentence}")
    last = max(heads, key=lambda head: head.entry_id, default=None)
    if differs is not None:
        problems.append(differs)
    elif not problems and last is not None and last.entry_id > end.entry_id:
        problems.append(
            f"the log ends at entry {end.entry_id}, but head {last.number} of {last.at} vouches for entry"
            f" {last.entry_id}: entries were cut off"
        )
    return problems, end


def staleness(
    heads: Sequence[Head], end: End, now: datetime, *, most: timedelta, heartbeat: timedelta
) -> str | None:
    """Why nothing vouches for the end of the log, as a sentence without a full stop; None if something does.

    Args:
        most: how long an entry may wait for a head.
        heartbeat: how often a head is published although nothing was added. Heads whose latest ones were
        removed
            together with the end of the log show by this alone.
    """
    if not heads:
        return f"no head is published for the {end.entry_id} entries" if end.entry_id else None
    age = now - heads[-1].published_at
    if heads[-1].entry_id < end.entry_id and age > most:
        return (
            f"the latest head is {int(age.total_seconds() // 60)} minutes old, and"
            f" {end.entry_id - heads[-1].entry_id} entries came after it: the publisher does not run, or"
            " heads were removed"
        )
    if age > heartbeat + most:
        return (
            f"the latest head is {int(age.total_seconds() // 60)} minutes old: the publisher does not run, or"
            " heads were removed"
        )
    return None


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
