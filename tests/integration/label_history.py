"""The same history of labels for a database and for the model of the rules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres.labels import refresh_classes, store_labels
from fraud_adapters.postgres.scored_transactions import store_scored, store_transactions
from fraud_core.batch import Batch
from fraud_core.labels import LabelEvent, Source
from tests.support.label_model import Known, LabelModel, Verdict
from tests.support.stored_rows import CREDITCARD, LABELS, batch, predictions

TRANSACTIONS: Final = 3
# Classes change only on whole days, so this offset keeps every moment away from a change while a test runs.
ASIDE: Final = timedelta(hours=6)


@dataclass(frozen=True)
class Arrive:
    """A transaction arrives, perhaps once more; unscored (history) or with a decision."""

    transaction: int
    wire_class: int | None
    decision: str | None


@dataclass(frozen=True)
class ReportedLabel:
    """A reported label; `rank` orders the label ids, and equal ranks give equal label ids."""

    transaction: int
    rank: int
    label: int
    source: Source
    day: int
    reporter: str | None = None


@dataclass(frozen=True)
class Report:
    """Labels stored in one batch."""

    labels: tuple[ReportedLabel, ...]


@dataclass(frozen=True)
class Wait:
    days: int


@dataclass(frozen=True)
class Refresh:
    pass


Step = Arrive | Report | Wait | Refresh


class Installations:
    """Connections that every example uses."""

    def __init__(self, streaming: Connection, admin: Connection) -> None:
        self.streaming = streaming
        self.admin = admin
        self.numbers = itertools.count(1)


@dataclass
class LabelHistory:
    """Applies each step to the database and to the model.

    Time passes by moving the timestamps in the database into the past.
    """

    installations: Installations
    days: Sequence[int]
    number: int = 0
    passed: timedelta = timedelta()
    model: LabelModel = field(default_factory=lambda: LabelModel(LABELS))
    # The class that the database should hold for each transaction, and whether silence implies it.
    classes: dict[str, tuple[int | None, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.number = next(self.installations.numbers)
        self.start = datetime.now(UTC)

    @property
    def now(self) -> datetime:
        return self.start + self.passed

    def name(self, transaction: int) -> str:
        return f"{self.number}-{transaction}"

    def names(self) -> list[str]:
        return [self.name(transaction) for transaction in range(TRANSACTIONS)]

    def moment(self, day: int) -> datetime:
        return self.start + timedelta(days=day) + ASIDE

    def do(self, step: Step) -> None:
        match step:
            case Arrive():
                self.arrive(step)
            case Report(labels):
                self.report(labels)
            case Wait(days):
                self.wait(timedelta(days=days))
            case Refresh():
                self.refresh()

    def arrive(self, step: Arrive) -> None:
        name, event_time = self.name(step.transaction), self.moment(self.days[step.transaction])
        columns = batch(1, seed=step.transaction).columns
        if step.wire_class is not None:
            columns["class"] = np.array([step.wire_class], dtype=np.float64)
        rows = Batch([name], [event_time - self.passed], columns)
        with self.installations.streaming as connection, connection.cursor() as cursor:
            if step.decision is None:
                store_transactions(cursor, CREDITCARD, rows, "test")
            else:
                predicted = predictions(CREDITCARD, rows, step.decision)
                store_scored(cursor, CREDITCARD, rows, predicted, "test")
        if self.model.arrive(name, event_time, step.wire_class, step.decision):
            self.touched(name)

    def report(self, labels: Sequence[ReportedLabel]) -> None:
        events = [self.event(label) for label in labels]
        with self.installations.streaming as connection, connection.cursor() as cursor:
            stored = store_labels(cursor, [shifted(event, -self.passed) for event in events], actor="test")
        verdicts: dict[int, Verdict] = dict.fromkeys(stored.new_rows, "new")
        verdicts |= dict.fromkeys(stored.replayed_rows, "replayed")
        verdicts |= dict.fromkeys(stored.conflict_rows, "conflict")
        assert [verdicts[row] for row in range(len(events))] == [self.model.report(event) for event in events]
        for row in stored.new_rows:
            self.touched(events[row].transaction_id)

    def event(self, label: ReportedLabel) -> LabelEvent:
        identifier = UUID(int=(label.rank << 64) | self.number)
        return LabelEvent(
            str(identifier),
            self.name(label.transaction),
            label.label,
            label.source,
            self.moment(label.day),
            label.reporter,
        )

    def wait(self, time: timedelta) -> None:
        self.passed += time
        with self.installations.admin as connection, connection.cursor() as cursor:
            for change in (
                "transactions SET event_time = event_time - %(time)s",
                "labels SET reported_at = reported_at - %(time)s, matures_at = matures_at - %(time)s",
                "labels_ahead SET reported_at = reported_at - %(time)s",
                "label_disputes SET opened_at = opened_at - %(time)s, resolved_at = resolved_at - %(time)s",
            ):
                cursor.execute(
                    f"UPDATE {change} WHERE transaction_id = ANY (%(names)s)",
                    {"time": time, "names": self.names()},
                )

    def refresh(self) -> None:
        rounds = 0
        while refresh_classes(self.installations.streaming, 2):
            rounds += 1
            assert rounds < 50, "refreshing does not end"
        for name in self.classes:
            self.touched(name)

    def touched(self, name: str) -> None:
        if name in self.model.transactions:
            now = self.now
            self.classes[name] = self.model.class_of(name, now), self.model.by_silence(name, now)

    def check_classes(self) -> None:
        rows = self.query(
            "SELECT transaction_id, class, class_implied IS TRUE FROM transactions"
            " WHERE transaction_id = ANY (%s)"
        )
        assert {name: expected for name, *expected in rows} == {k: list(v) for k, v in self.classes.items()}

    def check_as_of(self) -> None:
        moments = [*(at for at in self.model.moments() if at < self.now), self.now]
        rows = self.query(
            "SELECT t.n, a.* FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS t (at, n),"
            " labels_as_of(t.at) a WHERE a.transaction_id = ANY (%s)",
            [at - self.passed for at in moments],
        )
        known: dict[datetime, dict[str, Known]] = {at: {} for at in moments}
        for number, name, label, source, reported_at, mature in rows:
            answers = known[moments[number - 1]]
            assert name not in answers, "a transaction has several labels"
            answers[name] = (label, source, reported_at + self.passed, mature)
        assert known == {at: self.model.as_of(at) for at in moments}

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.installations.admin as connection, connection.cursor() as cursor:
            cursor.execute(statement, (*values, self.names()))
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


def shifted(event: LabelEvent, by: timedelta) -> LabelEvent:
    return replace(event, reported_at=event.reported_at + by)
