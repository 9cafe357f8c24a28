"""`backfill`: days of history straight into Postgres, with the truth that is known by now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.postgres import simulations
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_producer.simulator import Simulator
from fraud_producer.wire import SOURCE, label_event

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


class HistoryConflict(RefusedFailure):
    """Transactions of these ids are stored with other fields; one sentence."""


@dataclass(slots=True)
class Written:
    """What a backfill added."""

    transactions: int = 0
    frauds: int = 0
    labels: int = 0
    days_already_there: int = 0


def needless(cur: Cursor, wanted: int) -> str | None:
    """Why no history is to be simulated here, if so: enough is known, or there are real transactions."""
    if (known := simulations.count_labelled(cur, wanted)) >= wanted:
        return f"There are {known:,} transactions with a known class."
    if simulations.any_not_simulated(cur):
        return "There are transactions that were not simulated; none are simulated among them."
    return None


def midnights(until: datetime, days: int) -> list[datetime]:
    """Beginnings of the `days` whole days (UTC) before the day of `until`."""
    today = until.replace(hour=0, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=number) for number in range(days, 0, -1)]


def day_run_id(simulator: Simulator, midnight: datetime) -> str:
    return f"backfill/{simulator.population.digest[:16]}/{midnight.date().isoformat()}"


@dataclass(frozen=True, slots=True)
class History:
    """What is written for each day: how many transactions, and their truth as far as it is known `now`."""

    simulator: Simulator
    per_day: int
    now: datetime

    def write(
        self, connection: Connection, days: list[datetime], progress: Callable[[int, Written], None]
    ) -> Written:
        """Write days one after the other; `progress` hears how many are done and what they added."""
        total = Written()
        for number, midnight in enumerate(days, start=1):
            one = self.write_day(connection, midnight)
            total.transactions += one.transactions
            total.frauds += one.frauds
            total.labels += one.labels
            total.days_already_there += one.days_already_there
            progress(number, total)
        return total

    def write_day(self, connection: Connection, midnight: datetime) -> Written:
        """Write one day in one database transaction; a day that is there already is left alone.

        Raises:
            HistoryConflict: an id is taken by another transaction; nothing of the day is stored.
        """
        made = self.simulator.day(day_run_id(self.simulator, midnight), midnight, self.per_day)
        labels: list[int] = made.labels.tolist()
        known = [due <= self.now for due in made.due]
        with connection, connection.cursor() as cur:
            if simulations.count_stored(cur, made.batch.ids) == self.per_day:
                return Written(days_already_there=1)
            classes = [label if told else None for label, told in zip(labels, known, strict=True)]
            stored = store_transactions(cur, self.simulator.contract, made.batch, SOURCE, classes)
            if stored.conflict_rows:
                raise HistoryConflict(
                    f"{len(stored.conflict_rows)} transactions of {midnight.date()} are stored with other "
                    "fields: nothing of this day was changed."
                )
            sent = [self.now if told else None for told in known]
            simulations.store_truth(cur, made.batch.ids, labels, made.due, sent)
            events = [
                label_event(made.batch.ids[row], labels[row], made.due[row])
                for row, told in enumerate(known)
                if told
            ]
            added = len(store_labels(cur, events).new_rows) if events else 0
        return Written(len(stored.new_rows), sum(labels[row] for row in stored.new_rows), added)
