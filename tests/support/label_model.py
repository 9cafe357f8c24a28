"""The label rules in plain Python, against which the tests compare the database's functions."""

from __future__ import annotations

from collections.abc import Sequence
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
    """A transaction: its event time, the class it arrived with, and the first decision about it."""

    event_time: datetime
    wire_class: int | None
    decision: str | None


@dataclass
class LabelModel:
    """All transactions and reports so far, and the labels that follow from them at any time."""

    rules: Labels
    reports: dict[str, LabelEvent] = field(default_factory=dict)
    transactions: dict[str, Arrived] = field(default_factory=dict)

    def report(self, event: LabelEvent) -> Verdict:
        """Add a report; a label id identifies one report for ever."""
        known = self.reports.setdefault(event.label_id, event)
        if known is event:
            return "new"
        return "replayed" if known == event else "conflict"

    def arrive(
        self, identifier: str, event_time: datetime, wire_class: int | None, decision: str | None
    ) -> bool:
        """Whether the arrival changes anything: the first arrival and the first decision are kept."""
        known = self.transactions.get(identifier)
        if known is None:
            self.transactions[identifier] = Arrived(event_time, wire_class, decision)
            return True
        if decision is None or known.decision is not None:
            return False
        known.decision = decision
        return True

    def explicit(self, identifier: str, at: datetime) -> Known | None:
        """Of the reports until then: highest precedence first, then latest report, then greatest id."""
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
        return best.label, best.source, best.reported_at, mature and not disputed(reports)

    def implied(self, identifier: str, at: datetime) -> Known | None:
        """The label by silence: nobody reported the transaction for long enough, and it was not blocked."""
        one = self.transactions.get(identifier)
        if one is None or one.decision == "block":
            return None
        since = one.event_time + self.rules.implied_after
        return (0, "implied", since, True) if since <= at else None

    def as_of(self, at: datetime) -> dict[str, Known]:
        """The labels known at a time, including those of transactions that have not arrived yet."""
        names = {*self.transactions, *(event.transaction_id for event in self.reports.values())}
        classes = {name: self.explicit(name, at) or self.implied(name, at) for name in names}
        return {name: known for name, known in classes.items() if known is not None}

    def class_of(self, identifier: str, now: datetime) -> int | None:
        """The class: a report overrules the one the transaction arrived with, silence never does."""
        if (explicit := self.explicit(identifier, now)) is not None:
            return explicit[0]
        wire_class = self.transactions[identifier].wire_class
        if wire_class is not None:
            return wire_class
        return 0 if self.implied(identifier, now) else None

    def by_silence(self, identifier: str, now: datetime) -> bool:
        """Whether the transaction has its class by silence alone."""
        wire_class = self.transactions[identifier].wire_class
        stated = wire_class is not None or self.explicit(identifier, now) is not None
        return not stated and self.implied(identifier, now) is not None

    def moments(self) -> list[datetime]:
        """The moments at which any label changes, with the microsecond before and after each."""
        changes = [one.event_time + self.rules.implied_after for one in self.transactions.values()]
        for event in self.reports.values():
            maturity = self.rules.sources[event.source].maturity
            changes += [event.reported_at, event.reported_at + maturity]
        tick = timedelta(microseconds=1)
        return sorted({at + near for at in changes for near in (-tick, timedelta(), tick)})


def disputed(reports: Sequence[LabelEvent]) -> bool:
    """Whether the voices differ: of each the latest report counts, an adjudication settles earlier ones."""
    voices: dict[tuple[str, str], LabelEvent] = {}
    for event in sorted(reports, key=lambda e: (e.reported_at, e.source == "adjudication", UUID(e.label_id))):
        if event.source == "adjudication":
            voices.clear()
        named = event.source != "adjudication" and event.reported_by
        voices[event.source, named or ""] = event
    return len({event.label for event in voices.values()}) > 1
