"""Sends test records, and remembers them so that the oracle can compare them with the stored rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from config.constants import HEADER_SCHEMA
from fraud_adapters.kafka import Publisher
from tests.support.streaming_installation import StreamInstallation, creditcard_records

MALFORMED: tuple[bytes, ...] = (b"not json", b"", b"[1, 2]", b'{"v1": ', b"\xff\xfe\x00")


class Feed:
    """Sends records to an installation's transactions topic and remembers which of them must be stored.

    Attributes:
        good: for each id the payload that must be stored once, however often it was sent.
    """

    def __init__(self, installation: StreamInstallation, seed: int, timeout_s: float = 30.0) -> None:
        self.good: dict[str, bytes] = {}
        self.sent = 0
        self._seed = seed
        self._source = random.Random(seed)
        self._topic = installation.kafka.topic
        self._header = {HEADER_SCHEMA: installation.contract.schema_id.encode()}
        self._servers = installation.kafka.bootstrap_servers
        self._timeout_s = timeout_s
        self._publisher = Publisher(self._servers, timeout_s)

    def send(self, count: int, *, malformed: float = 0.0, repeated: float = 0.0) -> list[str]:
        """Send new transactions, acknowledged on return; returns their ids.

        Args:
            malformed: the share of additional records that are not transactions.
            repeated: the share of transactions sent a second time, now or later.
        """
        first = len(self.good)
        ids = [f"tx-{self._seed}-{number}" for number in range(first, first + count)]
        for record in creditcard_records(ids, self._source.getrandbits(32)):
            identifier = record["transaction_id"]
            self.put(identifier, json.dumps(record).encode())
            if self._source.random() < malformed:
                self.put_bad(self._source.choice(MALFORMED))
            if self._source.random() < repeated:
                again = self._source.choice([identifier, *self._recent()])
                self._send(again, self.good[again])
        self.flush()
        return ids

    def send_again(self, ids: Iterable[str]) -> None:
        """Send earlier transactions again, acknowledged on return."""
        for identifier in ids:
            self._send(identifier, self.good[identifier])
        self.flush()

    def put(self, identifier: str, payload: bytes) -> None:
        """Queue a transaction that must be stored with these fields."""
        self.good[identifier] = payload
        self._send(identifier, payload)

    def put_bad(self, payload: bytes, key: str = "bad") -> None:
        """Queue a record that must become a dead letter."""
        self._send(key, payload)

    def put_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Send transactions given as mappings, acknowledged on return."""
        for record in records:
            self.put(record["transaction_id"], json.dumps(record).encode())
        self.flush()

    def reconnect(self) -> None:
        """Open a new connection after a failure; unacknowledged records may or may not have arrived.

        Raises:
            KafkaFailure: no broker answers.
        """
        fresh = Publisher(self._servers, self._timeout_s)
        self._publisher.abandon()
        self._publisher = fresh

    def flush(self) -> None:
        self._publisher.flush()

    def is_good(self, key: bytes | None, value: bytes) -> bool:
        """Whether a record of the topic is one of the transactions to be stored."""
        return key is not None and self.good.get(key.decode()) == value

    def _recent(self) -> list[str]:
        last = len(self.good)
        numbers = range(max(0, last - 500), last, 50)
        return [known for n in numbers if (known := f"tx-{self._seed}-{n}") in self.good]

    def _send(self, key: str, value: bytes) -> None:
        self._publisher.send(self._topic, key.encode(), value, self._header)
        self.sent += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publisher.__exit__(kind, error, trace)
