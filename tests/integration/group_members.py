"""Members of a consumer group that tests poll explicitly, for tests of partition assignment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fraud_adapters.kafka import GroupMember, Record

# Two joins on a busy machine, with a broker that takes seconds for each.
PATIENCE_S = 60.0


class Member:
    """One member, its assignment events, and the records it has read."""

    def __init__(self, bootstrap: str, topic: str, group: str, **settings: Any) -> None:
        self.events: list[tuple[str, frozenset[int]]] = []
        self.records: list[Record] = []
        self.at_start: Mapping[int, int] = {}
        self.member = GroupMember(
            bootstrap,
            topic,
            group,
            "test",
            on_assigned=self._assigned,
            on_revoked=lambda partitions: self.events.append(("revoked", partitions)),
            **settings,
        )

    def _assigned(self, partitions: frozenset[int]) -> None:
        self.events.append(("assigned", partitions))
        self.member.start({p: offset for p, offset in self.at_start.items() if p in partitions})

    def poll(self, timeout_s: float = 0.1) -> list[Record]:
        records = self.member.poll(500, timeout_s)
        self.records += records
        return records

    def owns(self, *partitions: int) -> bool:
        return self.member.assigned() == set(partitions)

    def values(self) -> list[bytes]:
        return [record.value for record in self.records]


def poll_until(check: Callable[[], bool], *members: Member, seconds: float = PATIENCE_S) -> None:
    """Poll the members in turn until `check` holds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, [(m.events[-4:], len(m.records)) for m in members]
        for member in members:
            member.poll()
