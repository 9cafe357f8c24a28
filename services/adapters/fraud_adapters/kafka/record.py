"""A record as the consumer gets it, also where it could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KEEP_BYTES: Final = 1 << 20  # of a value, where the reader has no limit of its own


class Damage(StrEnum):
    """Why a record could not be read as it lies in the log."""

    BAD_HEADER = "bad_header"  # the name of a header is not UTF-8; all else is as it was sent
    UNREADABLE = "unreadable"  # broken, or packed by a codec nobody knows: neither key nor value


@dataclass(frozen=True, slots=True)
class Record:
    """One record. A null value is `b""`: neither is a transaction. Of headers of one name the last counts.

    `value` is the beginning of one that is larger than the reader keeps; `cut_from` is then its full size.
    Where `damage` is set, `detail` is one sentence that says what is wrong. What cannot be read of a batch is
    one record, which stands for its offset and all up to `last_offset`; `cut_from` is then the batch's size.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  # -1 where there is none
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    cut_from: int | None = None
    damage: Damage | None = None
    detail: str = ""
    last_offset: int | None = None

    @property
    def value_bytes(self) -> int:
        """The full size of the value."""
        return len(self.value) if self.cut_from is None else self.cut_from

    @property
    def next_offset(self) -> int:
        """What comes after it, unless that is a gap."""
        return (self.offset if self.last_offset is None else self.last_offset) + 1
