"""Puts transactions on a topic, in a process of its own; prints what it did as JSON.

    python -m tests.benchmarks.producing BOOTSTRAP TOPIC COUNT --rate 500 --warm-up 5 --book FILE
    python -m tests.benchmarks.producing BOOTSTRAP TOPIC COUNT --metrics URL --ahead 20000

At a rate it keeps to the clock, whatever the broker does: a transaction's time of production is the moment it
was due. If the producer is late, the delay counts as latency, and it is told how late it was. Otherwise it
stays at most so many transactions ahead of what the follower says it has stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaError, Message, Producer
from numpy.typing import NDArray

from tests.benchmarks import scrape

LINGER_MS: Final = 5  # as our own producers have it
BODIES: Final = 2_000
LOOK_SECONDS: Final = 0.1
# What the book holds of each transaction; `partition` is -1 if the broker never acknowledged it.
ENTRY: Final = np.dtype(
    [("due", "f8"), ("late", "f8"), ("acknowledged", "f8"), ("partition", "i4"), ("offset", "i8")]
)


def identifier(number: int) -> str:
    """The id of the transaction of that number: spread over the whole index, as random ones are."""
    return str(uuid.UUID(bytes=hashlib.blake2b(str(number).encode(), digest_size=16).digest()))


class Sender:
    """Sends numbered transactions; everything but id and event time is drawn once, beforehand."""

    def __init__(self, bootstrap: str, topic: str, count: int) -> None:
        source = random.Random(1)
        self._bodies = [_body(source) for _ in range(BODIES)]
        self.topic = topic
        self.book = np.zeros(count, ENTRY)
        self.book["partition"] = -1
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": LINGER_MS}
        )

    def send(self, number: int, due: float) -> None:
        """`due` is its time of production, in seconds since 1970."""
        name = identifier(number)
        moment = datetime.fromtimestamp(due, UTC).isoformat(timespec="microseconds")
        body = self._bodies[number % BODIES]
        value = f'{{"transaction_id":"{name}","event_time":"{moment}",{body}}}'.encode()
        self.book[number]["due"] = due
        while True:
            try:
                self._producer.produce(
                    self.topic,
                    value,
                    name.encode(),
                    headers={"schema": b"creditcard/1"},
                    timestamp=int(due * 1000),
                    on_delivery=lambda error, message: self._delivered(number, error, message),
                )
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def finish(self) -> None:
        self._producer.flush(120)

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            entry = self.book[number]
            entry["acknowledged"] = message.latency()
            entry["partition"], entry["offset"] = message.partition(), message.offset()


def at_rate(sender: Sender, begin: float, rate: float) -> None:
    """Open loop: transaction n is due at `begin` + n / rate."""
    for number in range(len(sender.book)):
        due = begin + number / rate
        while (ahead := due - time.time()) > 0:
            time.sleep(ahead)
        sender.book[number]["late"] = time.time() - due
        sender.send(number, due)


def ahead_of(sender: Sender, url: str, ahead: int) -> None:
    """As fast as the follower stores."""
    stored = 0.0
    for number in range(len(sender.book)):
        while number - stored >= ahead:
            stored = scrape.stored(url, sender.topic)
            if number - stored >= ahead:
                time.sleep(LOOK_SECONDS)
        sender.send(number, time.time())


def start(bootstrap: str, topic: str, count: int, *options: str) -> subprocess.Popen[bytes]:
    """The program as a process; what it did comes out of its standard output."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), bootstrap, topic, str(count), *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
    )


def summary(book: NDArray[Any], cpu_seconds: float) -> dict[str, Any]:
    acknowledged = book["partition"] >= 0
    return {
        "sent": len(book),
        "acknowledged": int(acknowledged.sum()),
        "cpu_seconds": round(cpu_seconds, 2),
        "late_ms": [round(float(q) * 1000, 2) for q in np.quantile(book["late"], [0.5, 0.99, 1])],
        "late_over_10_ms": int((book["late"] > 0.01).sum()),
        "acknowledged_after_ms": [
            round(float(q) * 1000, 2) for q in np.quantile(book["acknowledged"][acknowledged], [0.5, 0.99, 1])
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("count", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--book", help="where each transaction's times and place are written")
    parser.add_argument("--metrics", help="the follower's")
    parser.add_argument("--ahead", type=int, default=20_000)
    options = parser.parse_args()
    sender = Sender(options.bootstrap, options.topic, options.count)
    cpu_before = time.process_time()
    if options.rate:
        at_rate(sender, time.time() + 0.2, options.rate)
    else:
        ahead_of(sender, options.metrics, options.ahead)
    sender.finish()
    cpu_seconds = time.process_time() - cpu_before
    if options.book:
        np.save(options.book, sender.book)
    print(json.dumps(summary(sender.book, cpu_seconds)))


def _body(source: random.Random) -> str:
    record = {
        "time": round(source.uniform(0, 3e7), 2),
        "amount": round(source.lognormvariate(3, 1), 2),
        **{f"v{number}": round(source.gauss(0, 1.5), 6) for number in range(1, 29)},
    }
    return json.dumps(record)[1:-1]


if __name__ == "__main__":
    main()
