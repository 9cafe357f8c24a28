"""A record as the consumer receives it, including records that could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KEEP_BYTES: Final = 1 << 20  # how much of a value is kept by default


class Damage(StrEnum):
    """Why a record could not be read completely."""

    BAD_HEADER = "bad_header"  # the name of a header is not UTF-8; the rest of the record is intact
    UNREADABLE = "unreadable"  # corrupt, or compressed by an unknown codec: neither key nor value is known


@dataclass(frozen=True, slots=True)
class Record:
    """One record. A null value is read as `b""`. If a header occurs twice, the last one counts.

    A value larger than the reader keeps is truncated; `cut_from` is then its full size. If `damage` is set,
    `detail` is one sentence about the error. The unreadable part of a batch becomes one record that covers
    the offsets up to `last_offset`; `cut_from` is then the size of the batch.
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
        """The offset after this record; a gap may follow."""
        return (self.offset if self.last_offset is None else self.last_offset) + 1
