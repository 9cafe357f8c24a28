"""The embedded broker's log as it lies in the object store: an object for each produce request.

A partition begins, for Tansu, with the oldest object there is: so removing the oldest ones is all there is
to do to shorten it, and none of its metadata is touched.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, takewhile
from typing import Final

from fraud_adapters.objectstore import ObjectStore
from fraud_embedded.servers.broker import CLUSTER

_BATCH: Final = re.compile(r".*/partitions/(\d{10})/records/(\d{20})\.batch")


@dataclass(frozen=True, slots=True)
class Batch:
    """One produce request in the log: the offset of its first record."""

    offset: int
    key: str
    written_at: datetime


def read_by_all(batches: Sequence[Batch], position: int, keep: int) -> Sequence[Batch]:
    """Those that lie wholly before `position`, except the latest `keep` of them.

    A batch ends where the next one begins; so the last one always stays.
    """
    ends = [following.offset for following in batches[1:]]
    return batches[: max(0, bisect_right(ends, position) - keep)]


def older_than(batches: Sequence[Batch], moment: datetime) -> Sequence[Batch]:
    """Those written before `moment`, never the last one: the log would seem to begin at 0."""
    return list(takewhile(lambda batch: batch.written_at < moment, batches[:-1]))


class Log:
    """The broker's log as it lies in its bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def batches(self, topic: str) -> dict[int, list[Batch]]:
        """Per partition what it holds, by offset."""
        entries = self._store.entries(f"clusters/{CLUSTER}/topics/{topic}/partitions/")
        found = [(match, entry) for entry in entries if (match := _BATCH.fullmatch(entry.key))]
        return {
            partition: [Batch(int(match[2]), entry.key, entry.written_at) for match, entry in group]
            for partition, group in groupby(found, lambda pair: int(pair[0][1]))
        }

    def remove(self, batches: Sequence[Batch]) -> None:
        """The oldest first: whatever stops it, the log has no gap."""
        self._store.delete([batch.key for batch in batches])
