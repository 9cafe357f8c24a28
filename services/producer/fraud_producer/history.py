"""`backfill`: writes days of history directly into Postgres, with the labels that are known by now."""

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
    """Transactions with these ids are stored with other fields; one sentence."""


@dataclass(slots=True)
class BackfillCounts:
    """What a backfill added."""

    transactions: int = 0
    frauds: int = 0
    labels: int = 0
    days_already_there: int = 0


def reason_to_skip(cur: Cursor, required: int) -> str | None:
    """Why no history must be simulated, or None: enough labels exist, or there are real transactions."""
    if (known := simulations.count_labelled(cur, required)) >= required:
        return f"There are {known:,} transactions with a known class."
    if simulations.any_not_simulated(cur):
        return "There are transactions that were not simulated; none are simulated among them."
    return None


def midnights(until: datetime, days: int) -> list[datetime]:
    """The starts of the `days` whole days (UTC) before the day of `until`."""
    today = until.replace(hour=0, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=number) for number in range(days, 0, -1)]


def day_run_id(simulator: Simulator, midnight: datetime) -> str:
    return f"backfill/{simulator.population.digest[:16]}/{midnight.date().isoformat()}"


@dataclass(frozen=True, slots=True)
class History:
    """Writes `per_day` transactions for each day, with the labels that are known at `now`."""

    simulator: Simulator
    per_day: int
    now: datetime

    def write(
        self, connection: Connection, days: list[datetime], progress: Callable[[int, BackfillCounts], None]
    ) -> BackfillCounts:
        """Write days in order; `progress` is called with the number of finished days and the counts."""
        total = BackfillCounts()
        for number, midnight in enumerate(days, start=1):
            counts = self.write_day(connection, midnight)
            total.transactions += counts.transactions
            total.frauds += counts.frauds
            total.labels += counts.labels
            total.days_already_there += counts.days_already_there
            progress(number, total)
        return total

    def write_day(self, connection: Connection, midnight: datetime) -> BackfillCounts:
        """Write one day in one database transaction; an existing day is not changed.

        Raises:
            HistoryConflict: another transaction has one of the ids; nothing of the day is stored.
        """
        simulated = self.simulator.day(day_run_id(self.simulator, midnight), midnight, self.per_day)
        labels: list[int] = simulated.labels.tolist()
        known = [due <= self.now for due in simulated.due]
        with connection, connection.cursor() as cur:
            if simulations.count_stored(cur, simulated.batch.ids) == self.per_day:
                return BackfillCounts(days_already_there=1)
            classes = [label if is_known else None for label, is_known in zip(labels, known, strict=True)]
            stored = store_transactions(cur, self.simulator.contract, simulated.batch, SOURCE, classes)
            if stored.conflict_rows:
                raise HistoryConflict(
                    f"{len(stored.conflict_rows)} transactions of {midnight.date()} are stored with other "
                    "fields: nothing of this day was changed."
                )
            sent = [self.now if is_known else None for is_known in known]
            simulations.store_truth(cur, simulated.batch.ids, labels, simulated.due, sent)
            events = [
                label_event(simulated.batch.ids[row], labels[row], simulated.due[row])
                for row, is_known in enumerate(known)
                if is_known
            ]
            added = len(store_labels(cur, events).new_rows) if events else 0
        return BackfillCounts(len(stored.new_rows), sum(labels[row] for row in stored.new_rows), added)
