"""Compares what was sent with what was stored; every difference is a named finding."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fraud_adapters.kafka import PartitionReader, Record
from tests.faults.feed import Feed
from tests.support.streaming_installation import StreamInstallation, read_all

SHOWN: Final = 5  # examples shown with a finding
SAMPLE: Final = 300  # rows whose fields are compared individually
_NUMBERS: Final = ("time", "amount", *(f"v{number}" for number in range(1, 29)))


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of difference."""

    name: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.name}: {self.count} ({', '.join(self.examples)}{more})"


def judge(installation: StreamInstallation, feed: Feed) -> list[Finding]:
    """All differences between the topics and the database after everything was consumed; empty if correct."""
    log = read_all(installation.kafka, installation.kafka.topic)
    good = {(record.key or b"").decode() for record in log if feed.is_good(record.key, record.value)}
    bad = {_origin(record) for record in log if not feed.is_good(record.key, record.value)}
    differences = [
        ("acknowledged, but not in the log", feed.good.keys() - good),
        *_transactions(installation, good),
        *_predictions(installation, good),
        *_dead_letters(installation, bad),
        *_alerts(installation),
        ("position is not the end of the log", unread(installation)),
        ("stored with other fields than sent", _altered(installation, feed)),
    ]
    return [_finding(name, examples) for name, examples in differences if examples]


def _finding(name: str, examples: Collection[Any]) -> Finding:
    return Finding(name, len(examples), tuple(str(one) for one in sorted(examples)[:SHOWN]))


def _transactions(installation: StreamInstallation, good: set[str]) -> Iterable[tuple[str, Collection[Any]]]:
    stored = [row[0] for row in installation.rows("SELECT transaction_id FROM transactions")]
    yield "lost", good - set(stored)
    yield "stored, but never sent", set(stored) - good
    yield "stored twice", _repeated(stored)


def _predictions(installation: StreamInstallation, good: set[str]) -> Iterable[tuple[str, Collection[Any]]]:
    rows = installation.rows("SELECT transaction_id, deciding FROM predictions")
    deciding = [identifier for identifier, decides in rows if decides]
    yield "without a deciding prediction", good - set(deciding)
    yield "with several deciding predictions", _repeated(deciding)
    yield "predicted, but never sent", {row[0] for row in rows} - good
    yield "with predictions that do not decide", {identifier for identifier, decides in rows if not decides}


def _dead_letters(installation: StreamInstallation, bad: set[str]) -> Iterable[tuple[str, Collection[Any]]]:
    rows = installation.rows("SELECT topic, partition, record_offset FROM dead_letters")
    origins = [f"{topic}/{partition}/{offset}" for topic, partition, offset in rows]
    yield "bad records that are no dead letters", bad - set(origins)
    yield "dead letters of records that are good", set(origins) - bad
    yield "dead letters stored twice", _repeated(origins)
    published = {record.headers["origin"].decode() for record in installation.dead_letter_topic()}
    yield "bad records that are not on the dead-letter topic", bad - published
    yield "good records that are on the dead-letter topic", published - bad


def unread(installation: StreamInstallation) -> list[str]:
    """The partitions of the transactions topic whose stored position is not the end of the log."""
    statement = "SELECT partition, next_offset FROM stream_offsets WHERE topic = %s"
    stored = dict(installation.rows(statement, installation.kafka.topic))
    return [
        f"{partition}: {stored.get(partition)} instead of {end}"
        for partition, end in _ends(installation).items()
        if stored.get(partition, 0) != end
    ]


def _alerts(installation: StreamInstallation) -> Iterable[tuple[str, Collection[Any]]]:
    statement = "SELECT transaction_id FROM predictions WHERE deciding AND decision IN ('review', 'block')"
    suspects = {row[0] for row in installation.rows(statement)}
    alerted = {
        (record.key or b"").decode()
        for record in read_all(installation.kafka, installation.kafka.alerts_topic)
    }
    yield "blocked or reviewed without an alert", suspects - alerted
    yield "alerts of others", alerted - suspects
    yield (
        "alerts that wait on",
        {row[0] for row in installation.rows("SELECT transaction_id FROM alert_outbox")},
    )


def _ends(installation: StreamInstallation) -> dict[int, int]:
    """The end of the log of each partition of the transactions topic."""
    positions: dict[int, int] = {}
    with PartitionReader(
        installation.kafka.bootstrap_servers, installation.kafka.topic, client_id="oracle"
    ) as reader:
        for partition in reader.partitions():
            # Read one partition at a time: a fetch filled by the first would not show the end of the second.
            reader.assign({partition: 0})
            for _ in range(20):
                reader.poll(1, timeout_s=1)
                if marks := reader.high_watermarks():
                    positions |= marks
                    break
            else:
                raise AssertionError(f"{installation.kafka.topic}/{partition} cannot be read")
    return positions


def _altered(installation: StreamInstallation, feed: Feed) -> list[str]:
    """The ids of a sample whose stored fields differ from those sent."""
    ids = random.Random(len(feed.good)).sample(sorted(feed.good), min(SAMPLE, len(feed.good)))
    columns = ", ".join(("event_time", *_NUMBERS))
    statement = f"SELECT transaction_id, {columns} FROM transactions WHERE transaction_id = ANY (%s)"
    return [
        row[0] for row in installation.rows(statement, ids) if list(row[1:]) != _fields(feed.good[row[0]])
    ]


def _fields(payload: bytes) -> list[Any]:
    record = json.loads(payload, parse_float=Decimal)
    return [datetime.fromisoformat(record["event_time"]), *(record[name] for name in _NUMBERS)]


def _origin(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, times in Counter(values).items() if times > 1]
