"""Transactions that the tests publish, recognised by their ids."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from tests.stack.stack import Stack, wait_for
from tests.support.api_server import creditcard

TOPIC: Final = "fraud-detection-transactions"
_PATIENCE_MS: Final = 180_000
# More than a run of the stream drains in its eight seconds, so that there is time to kill it.
BACKLOG: Final = 4000


def publish(stack: Stack, names: Sequence[str]) -> None:
    """Publish each exactly once, even if the broker restarts; returns when all are acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": f"localhost:{stack.harness.ports['kafka']}",
            "enable.idempotence": True,
            "message.timeout.ms": _PATIENCE_MS,
        }
    )
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    for name in names:
        body = creditcard(name) | {"event_time": datetime.now(UTC).isoformat()}
        producer.produce(TOPIC, key=name, value=json.dumps(body), on_delivery=delivered)
    assert producer.flush(_PATIENCE_MS / 1000) == 0
    assert not failures


def decided(stack: Stack, names: Sequence[str]) -> int:
    """The number of transactions stored with exactly one decision.

    Raises:
        AssertionError: a transaction has two decisions, or none.
    """
    values = ",".join(f"('{name}')" for name in names)
    [[transactions, decisions, distinct]] = stack.psql(
        f"WITH wanted (transaction_id) AS (VALUES {values}) "
        "SELECT (SELECT count(*) FROM wanted JOIN transactions USING (transaction_id)), "
        "count(p.transaction_id), count(DISTINCT p.transaction_id) "
        "FROM wanted JOIN predictions p USING (transaction_id) WHERE p.deciding"
    )
    assert decisions == distinct, "a transaction was decided twice"
    assert transactions == decisions, "a transaction is stored without its decision"
    return int(distinct)


def job_at_work(stack: Stack) -> tuple[str, list[str]]:
    """The id of a container that scores a backlog, and the names of the backlog's records.

    The first run takes the backlog: either the triggered one or a scheduled one.
    """
    names = [f"stack-{uuid.uuid4()}" for _ in range(BACKLOG)]
    before = set(stack.jobs())
    publish(stack, names)
    run = stack.airflow().trigger("00_realtime_streaming")

    def streaming() -> list[str]:
        return [job for job, name in stack.jobs().items() if job not in before and "streaming" in name]

    wait_for(lambda: bool(streaming()), 120, lambda: f"no container for {run}: {stack.jobs()}")
    return streaming()[0], names
