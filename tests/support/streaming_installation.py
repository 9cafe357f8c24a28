"""Helpers of the stream's tests: an installation with broker, database and API, and records for it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka

from config.constants import HEADER_SCHEMA
from config.parameters import Streaming
from config.settings import ApiClientSettings, DatabaseSettings, KafkaSettings
from fraud_adapters.kafka import PartitionReader, Publisher, Record
from fraud_core.contract import Contract
from fraud_streaming.consume.job import run
from fraud_streaming.consume.pump import RunLimits
from fraud_streaming.installation import Installation
from tests.support import forked
from tests.support.api_server import CLIENTS
from tests.support.stored_rows import CREDITCARD, Database
from tests.support.stored_rows import run as run_sql

ROOT = Path(__file__).parents[2]
STREAMING = Streaming(
    batch_size=100,
    drain_seconds=30,
    follow_batch_size=500,
    max_record_bytes=65536,
    max_bad_share=0.5,
    dead_letter_payload_bytes=16384,
    stalled_after_seconds=30,
)


@dataclass
class StreamInstallation:
    """One test's topics and database, and the API that serves its contract."""

    database: Database
    kafka: KafkaSettings
    api_url: str
    contract: Contract = CREDITCARD
    extra: dict[str, str] = field(default_factory=dict)
    streaming: Streaming = STREAMING

    @property
    def installation(self) -> Installation:
        return Installation(
            contract=self.contract,
            database=DatabaseSettings.model_validate({"database_url": self.database.url("streaming")}),
            kafka=self.kafka,
            api=ApiClientSettings.model_validate(
                {
                    "api_url": self.api_url,
                    "api_client_id": "streaming",
                    "api_client_secret": CLIENTS["streaming"],
                }
            ),
            streaming=self.streaming,
        )

    def consume(self, **limits: Any) -> Mapping[str, Any]:
        """Run the bounded consumer in this process; returns its result."""
        return run(self.installation, RunLimits(**{"chunk_records": 100, "seconds": 30.0, **limits}))

    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return inherited | {
            "APP_ENV": "testing",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "FRAUD_CONTRACT": self.contract.name,
            "DATABASE_URL": self.database.url("streaming"),
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(self.kafka.bootstrap_servers),
            "KAFKA_TOPIC": self.kafka.topic,
            "KAFKA_GROUP": self.kafka.group,
            "API_URL": self.api_url,
            "API_CLIENT_ID": "streaming",
            "API_CLIENT_SECRET": CLIENTS["streaming"],
            **self.extra,
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m fraud_streaming …` as a separate process."""
        return forked.run("fraud_streaming", *arguments, env=self.environment())

    def send(
        self, values: Iterable[bytes | Mapping[str, Any]], headers: Mapping[str, bytes] | None = None
    ) -> None:
        """Send records to the transactions topic, by default with the header that producers set."""
        sent_headers = {HEADER_SCHEMA: self.contract.schema_id.encode()} if headers is None else headers
        self._publish(self.kafka.topic, values, sent_headers)

    def send_with_foreign_client(
        self,
        values: Iterable[bytes | Mapping[str, Any]],
        headers: Sequence[tuple[str, bytes | None]] = (),
        topic: str | None = None,
    ) -> None:
        """Send with another client, which accepts what ours refuses, such as records of ten megabytes."""
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self.kafka.kafka_bootstrap_servers, "message.max.bytes": 12_000_000}
        )
        for value in values:
            payload = value if isinstance(value, bytes) else json.dumps(value).encode()
            producer.produce(topic or self.kafka.topic, payload, b"key", headers=list(headers))
            producer.flush(10)

    def send_labels(self, values: Iterable[bytes | Mapping[str, Any]]) -> None:
        self._publish(self.kafka.labels_topic, values, {})

    def send_keyed(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Send records to the transactions topic, distributed over its partitions by their ids."""
        headers = {HEADER_SCHEMA: self.contract.schema_id.encode()}
        with Publisher(self.kafka.bootstrap_servers) as publisher:
            for value in values:
                key = str(value["transaction_id"]).encode()
                publisher.send(self.kafka.topic, key, json.dumps(value).encode(), headers)

    def _publish(
        self, topic: str, values: Iterable[bytes | Mapping[str, Any]], headers: Mapping[str, bytes]
    ) -> None:
        with Publisher(self.kafka.bootstrap_servers) as publisher:
            for value in values:
                payload = value if isinstance(value, bytes) else json.dumps(value).encode()
                publisher.send(topic, b"key", payload, headers)

    def dead_letter_topic(self) -> list[Record]:
        return read_all(self.kafka, self.kafka.dlq_topic)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the database's owner."""
        return run_sql(self.database.url("owner"), statement, *values)

    def rows_as_admin(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as the server's administrator."""
        return run_sql(self.database.url("admin"), statement)

    def count(self, table: str) -> int:
        number: int = self.rows(f"SELECT count(*) FROM {table}")[0][0]
        return number

    def fell_silent(self, identifier: str) -> None:
        """Store a transaction that is old enough for silence to imply a label, but has none yet."""
        run_sql(
            self.database.url("owner"),
            "INSERT INTO transactions (transaction_id, event_time, contract, source)"
            " VALUES (%s, '2024-01-01Z', 'creditcard/1', 'test')",
            identifier,
        )

    def ids(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT transaction_id FROM transactions")}


def read_all(kafka: KafkaSettings, topic: str) -> list[Record]:
    """Every record of a topic."""
    records: list[Record] = []
    with PartitionReader(kafka.bootstrap_servers, topic, client_id="test") as reader:
        reader.assign(dict.fromkeys(reader.partitions(), 0))
        for _ in range(200):
            records += reader.poll(10_000, timeout_s=1)
            if reader.drained():
                return records
    raise AssertionError(f"{topic} was not drained")


def creditcard_records(ids: Sequence[str], seed: int = 1) -> list[dict[str, Any]]:
    """Valid records of the contract `creditcard`, with these ids."""
    source = random.Random(seed)
    return [
        {
            "transaction_id": identifier,
            "event_time": f"2026-03-01T12:00:{number % 60:02d}.250Z",
            "time": round(source.uniform(0, 1e6), 2),
            "amount": round(source.lognormvariate(3, 1), 2),
            **{f"v{i}": round(source.gauss(0, 1.5), 6) for i in range(1, 29)},
        }
        for number, identifier in enumerate(ids)
    ]
