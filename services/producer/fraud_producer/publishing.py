"""The verbs `generate` and `labels`: store the truth, publish messages, then mark labels as sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.postgres import simulations
from fraud_core.contract import Contract
from fraud_producer.simulator import SimulatedBatch, Simulator
from fraud_producer.wire import Message, label_event, label_message, transaction_messages

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

LABEL_BATCH: Final = 2_000
SimulatorAt = Callable[["Cursor", datetime], Simulator]


class Sink(Protocol):
    """Accepts messages; they are sent only once `flush` has returned."""

    def send(self, topic: str, key: bytes, value: bytes, headers: dict[str, bytes] | None = None) -> None: ...

    def flush(self) -> None: ...


class RunTimeConflict(RefusedFailure):
    """A run with this id was generated for another time than the requested one; one sentence."""


@dataclass(frozen=True, slots=True)
class Run:
    """One `generate`: its id, how many transactions, and when they happen (aware, UTC)."""

    run_id: str
    count: int
    at: datetime
    at_is_binding: bool


def simulate_run(connection: Connection, simulator_at: SimulatorAt, run: Run) -> SimulatedBatch:
    """Simulate a run's transactions and commit their truth before any of them is sent.

    A retry of a run generates the same transactions at the same time, which follows from the stored due time
    of its first transaction. The configured label delay must therefore not change between a run and its
    retry.

    Args:
        simulator_at: gives the simulator as it is at an event time.

    Raises:
        RunTimeConflict: the requested time differs from that of the run.
    """
    with connection, connection.cursor() as cur:
        simulations.lock_run(cur, run.run_id)
        simulated = simulator_at(cur, run.at).at(run.run_id, moments(run.at, run.count))
        earlier = simulations.due_of(cur, simulated.batch.ids[0])
        if earlier is not None and earlier != simulated.due[0]:
            at = run.at + (earlier - simulated.due[0])
            if run.at_is_binding:
                raise RunTimeConflict(
                    f"Run {run.run_id} was generated for {at.isoformat()}: retry it without --at, "
                    "or use another --run-id."
                )
            simulated = simulator_at(cur, at).at(run.run_id, moments(at, run.count))
        simulations.store_truth(cur, simulated.batch.ids, simulated.labels.tolist(), simulated.due)
    return simulated


def moments(at: datetime, count: int) -> list[datetime]:
    """Event times of a run: a microsecond apart, so that they keep the order of generation."""
    return [at + timedelta(microseconds=index) for index in range(count)]


def publish_transactions(sink: Sink, topic: str, contract: Contract, simulated: SimulatedBatch) -> None:
    """Send the transactions and wait for the acknowledgements."""
    for message in transaction_messages(contract, simulated.batch):
        _send(sink, topic, message)
    sink.flush()


def publish_due_labels(
    connection: Connection, sink: Sink, topic: str, now: datetime, limit: int | None = None
) -> int:
    """Send the due labels, each at least once: they are marked as sent only after their acknowledgement.

    Args:
        limit: stop after about this many labels; None for all due ones.
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
