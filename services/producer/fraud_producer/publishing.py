"""What `generate` and `labels` do: truth first, then messages, then the mark that they were sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.postgres import simulations
from fraud_producer.simulator import Simulated, Simulator
from fraud_producer.wire import Message, label_event, label_message, transaction_messages

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

LABEL_BATCH: Final = 2_000


class Sink(Protocol):
    """Where messages go; sent only once `flush` has returned."""

    def send(self, topic: str, key: bytes, value: bytes, headers: dict[str, bytes] | None = None) -> None: ...

    def flush(self) -> None: ...


class RunDiffers(RefusedFailure):
    """A run of this id was made at another time than the one asked for; one sentence."""


@dataclass(frozen=True, slots=True)
class Run:
    """One `generate`: its id, how many transactions, and when they happen (aware, UTC)."""

    run_id: str
    count: int
    at: datetime
    at_is_binding: bool


def remember(connection: Connection, simulator: Simulator, run: Run) -> Simulated:
    """Make a run's transactions and store their truth, committed, before any of them is sent.

    A run made before is made again as it was, at its own time: that follows from when the truth about its
    first transaction is due. (So the configured label delay must not change between a run and its retry.)

    Raises:
        RunDiffers: the time asked for is not that of the run.
    """
    with connection, connection.cursor() as cur:
        simulations.lock_run(cur, run.run_id)
        made = simulator.at(run.run_id, moments(run.at, run.count))
        earlier = simulations.due_of(cur, made.batch.ids[0])
        if earlier is not None and earlier != made.due[0]:
            at = run.at + (earlier - made.due[0])
            if run.at_is_binding:
                raise RunDiffers(
                    f"Run {run.run_id} was made at {at.isoformat()}: retry it without --at, or name another."
                )
            made = simulator.at(run.run_id, moments(at, run.count))
        simulations.store_truth(cur, made.batch.ids, made.labels.tolist(), made.due)
    return made


def moments(at: datetime, count: int) -> list[datetime]:
    """Event times of a run: a microsecond apart, so that their order is that of their making."""
    return [at + timedelta(microseconds=index) for index in range(count)]


def publish_transactions(sink: Sink, topic: str, simulator: Simulator, made: Simulated) -> None:
    """Send them and wait for the acknowledgements."""
    for message in transaction_messages(simulator.contract, made.batch):
        _send(sink, topic, message)
    sink.flush()


def publish_due_labels(
    connection: Connection, sink: Sink, topic: str, now: datetime, limit: int | None = None
) -> int:
    """Send the labels that are due, at least once each: marked as sent only after their acknowledgement.

    Args:
        limit: stop after about so many; None for all that are due.
    """
    sent = 0
    while limit is None or sent < limit:
        with connection, connection.cursor() as cur:
            rows = simulations.due_labels(cur, now, LABEL_BATCH)
            for row in rows:
                _send(sink, topic, label_message(label_event(*row)))
            sink.flush()
            simulations.mark_sent(cur, [row[0] for row in rows], now)
        sent += len(rows)
        if len(rows) < LABEL_BATCH:
            break
    return sent


def _send(sink: Sink, topic: str, message: Message) -> None:
    sink.send(topic, message.key, message.value, message.headers)
