"""The rules of labels once more, in plain Python: what the database's functions are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from config.parameters import Labels
from fraud_core.labels import LabelEvent

Known = tuple[int, str, datetime, bool]  # label, source, reported at, mature
Verdict = Literal["new", "replayed", "conflict"]


@dataclass
class Arrived:
    """A transaction: when it took place, the class it came with, the first decision about it."""

    event_time: datetime
    wire_class: int | None
    decision: str | None


@dataclass
class LabelModel:
    """Everything that was said so far, and what follows from it at any time."""

    rules: Labels
    reports: dict[str, LabelEvent] = field(default_factory=dict)
    transactions: dict[str, Arrived] = field(default_factory=dict)

    def report(self, event: LabelEvent) -> Verdict:
        """A label id stands for one report for ever."""
        known = self.reports.setdefault(event.label_id, event)
        if known is event:
            return "new"
        return "replayed" if known == event else "conflict"

    def arrive(
        self, identifier: str, event_time: datetime, wire_class: int | None, decision: str | None
    ) -> bool:
        """Whether it changes anything: the first arrival and the first decision stay."""
        known = self.transactions.get(identifier)
        if known is None:
            self.transactions[identifier] = Arrived(event_time, wire_class, decision)
            return True
        if decision is None or known.decision is not None:
            return False
        known.decision = decision
        return True

    def explicit(self, identifier: str, at: datetime) -> Known | None:
        """Highest precedence, then latest report, then greatest id, of what was reported by then."""
        reports = [
            event
            for event in self.reports.values()
            if event.transaction_id == identifier and event.reported_at <= at
        ]
        if not reports:
            return None
        best = max(
            reports, key=lambda e: (self.rules.sources[e.source].precedence, e.reported_at, UUID(e.label_id))
        )
        mature = best.reported_at + self.rules.sources[best.source].maturity <= at
        return best.label, best.source, best.reported_at, mature

    def implied(self, identifier: str, at: datetime) -> Known | None:
        """Silence: long enough, about a transaction that was not blocked."""
        one = self.transactions.get(identifier)
        if one is None or one.decision == "block":
            return None
        since = one.event_time + self.rules.implied_after
        return (0, "implied", since, True) if since <= at else None

    def as_of(self, at: datetime) -> dict[str, Known]:
        """What was known at a time, also of transactions that have not arrived."""
        names = {*self.transactions, *(event.transaction_id for event in self.reports.values())}
        classes = {name: self.explicit(name, at) or self.implied(name, at) for name in names}
        return {name: known for name, known in classes.items() if known is not None}

    def class_of(self, identifier: str, now: datetime) -> int | None:
        """Silence never overrules the class a transaction came with; a report does."""
        if (explicit := self.explicit(identifier, now)) is not None:
            return explicit[0]
        wire_class = self.transactions[identifier].wire_class
        if wire_class is not None:
            return wire_class
        return 0 if self.implied(identifier, now) else None

    def by_silence(self, identifier: str, now: datetime) -> bool:
        """Whether nothing but silence gives the transaction its class."""
        wire_class = self.transactions[identifier].wire_class
        stated = wire_class is not None or self.explicit(identifier, now) is not None
        return not stated and self.implied(identifier, now) is not None

    def moments(self) -> list[datetime]:
        """When anything changes, and the microseconds before and after."""
        changes = [one.event_time + self.rules.implied_after for one in self.transactions.values()]
        for event in self.reports.values():
            maturity = self.rules.sources[event.source].maturity
            changes += [event.reported_at, event.reported_at + maturity]
        tick = timedelta(microseconds=1)
        return sorted({at + near for at in changes for near in (-tick, timedelta(), tick)})
