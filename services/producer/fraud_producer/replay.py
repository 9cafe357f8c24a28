"""`replay`: a file's transactions as a stream, at its own pace or faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from fraud_adapters.postgres import simulations
from fraud_adapters.transaction_files import BadFile, TransactionFile
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_producer.publishing import Sink
from fraud_producer.wire import transaction_messages

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@dataclass(frozen=True, slots=True)
class Schedule:
    """The event time of a row, and the time at which it is sent.

    Attributes:
        start: event time of the first row (aware, UTC).
        speed: seconds of the file in one second of the clock; 0 sends as fast as possible.
        placed: event times follow the file's own pace from `start` on. Otherwise they follow the sending:
            `speed` times as fast, or all at `start` with speed 0.
    """

    start: datetime
    speed: float
    placed: bool

    def event_time(self, elapsed: float) -> datetime:
        if self.placed:
            return self.start + timedelta(seconds=elapsed)
        return self.start + timedelta(seconds=elapsed / self.speed if self.speed else 0.0)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the replay sees it: a monotonic clock in seconds, and a way to wait."""

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


class DelayedLabels:
    """Stores the file's labels, to be published when they are due."""

    def __init__(self, connection: Connection, contract: Contract, delay: timedelta) -> None:
        label = contract.label_field
        assert label is not None
        self._label = label.name
        self._connection = connection
        self._delay = delay

    def store(self, batch: Batch) -> None:
        labels = batch.columns.get(self._label)
        if labels is None:
            return
        rows = np.nonzero(~np.isnan(labels))[0].tolist()
        due = [batch.event_times[row] + self._delay for row in rows]
        with self._connection, self._connection.cursor() as cur:
            simulations.store_truth(
                cur, [batch.ids[row] for row in rows], labels[rows].astype(int).tolist(), due
            )


@dataclass(slots=True)
class Replay:
    """One replay of a file into a topic.

    Attributes:
        truth: stores the labels until they are due; None drops them.
        with_class: put the label into the transaction itself.
        acknowledged: transactions known to be on the topic.
    """

    file: TransactionFile
    schedule: Schedule
    sink: Sink
    topic: str
    clock: Clock
    progress: Callable[[int], None]
    truth: DelayedLabels | None = None
    with_class: bool = False
    limit: int | None = None
    acknowledged: int = 0

    def run(self) -> None:
        """Send the file.

        Raises:
            BadFile: a row cannot be read; the batches before it are sent.
        """
        if self.with_class and self._label_column() is None:
            raise BadFile(
                f"{self.file.path.name}: there is no column for the class, which --with-class sends."
            )
        started = self.clock.monotonic()
        for batch, elapsed in self._timed():
            if self.truth is not None:
                self.truth.store(batch)
            messages = transaction_messages(self.file.contract, batch, with_class=self.with_class)
            for message, seconds in zip(messages, elapsed, strict=True):
                self._wait(started, seconds)
                self.sink.send(self.topic, message.key, message.value, message.headers)
            self.sink.flush()
            self.acknowledged += len(batch)
            self.progress(self.acknowledged)

    def _timed(self) -> Iterator[tuple[Batch, list[float]]]:
        """Batches with their event times, and the seconds since the first row of each row."""
        clock = self.file.contract.with_role("clock")
        first: float | None = None
        remaining = self.limit
        for whole in self.file.batches():
            batch = whole if remaining is None else whole.take(slice(0, remaining))
            if not len(batch):
                return
            times = batch.columns[clock.name] if clock is not None else np.zeros(len(batch))
            first = float(times[0]) if first is None else first
            elapsed = (times - first).tolist()
            moments = [self.schedule.event_time(seconds) for seconds in elapsed]
            yield replace(batch, event_times=moments), elapsed
            if remaining is not None:
                remaining -= len(batch)

    def _wait(self, started: float, elapsed: float) -> None:
        if self.schedule.speed:
            early = elapsed / self.schedule.speed - (self.clock.monotonic() - started)
            if early > 0:
                self.clock.sleep(early)

    def _label_column(self) -> str | None:
        label = self.file.contract.label_field
        return self.file.layout.columns.get(label.name) if label is not None else None
