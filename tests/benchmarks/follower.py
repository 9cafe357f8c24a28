"""What follows a topic as a process of its own, under a benchmark: ours, or the floor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from config.settings import KafkaSettings
from fraud_adapters.kafka import ensure_topics
from fraud_embedded.processes.ports import free_ports
from tests.benchmarks import scrape
from tests.benchmarks.servers import Servers
from tests.benchmarks.stream import environment
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 60.0
END_SECONDS: Final = 40.0
FLOOR_RECORDS: Final = 500  # in one transaction of the floor


class Follower:
    """`python -m fraud_streaming run --follow`; holds all partitions once `start` returns."""

    def __init__(self, servers: Servers, database_url: str, topic: str, partitions: int, log: Path) -> None:
        kafka = KafkaSettings(kafka_bootstrap_servers=servers.bootstrap, kafka_topic=topic)
        ensure_topics(kafka.bootstrap_servers, [kafka.topic], partitions)
        ensure_topics(kafka.bootstrap_servers, [kafka.labels_topic, kafka.dlq_topic, kafka.alerts_topic])
        self._environment = {**os.environ, **environment(servers, database_url, topic)}
        self._topic = topic
        self._partitions = partitions
        self._log = log
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}/metrics"
        self._command = [
            *(sys.executable, "-m", "fraud_streaming", "run", "--follow"),
            *("--metrics-port", str(port)),
        ]
        self.result: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def stored(self) -> int:
        return int(scrape.stored(self.url, self._topic))

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=log
            )
        if not eventually(self._holds_all, READY_SECONDS):
            self._process.kill()
            raise SystemExit(f"the follower did not get its partitions:\n{self._log.read_text()[-2000:]}")

    def _holds_all(self) -> bool:
        return scrape.partitions(self.url, self._topic) == self._partitions

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=END_SECONDS)
        if self._process.returncode != 0:
            raise SystemExit(f"the follower failed:\n{self._log.read_text()[-2000:]}")
        self.result = json.loads(out)


class HandWritten:
    """`tests.benchmarks.floor`, following the topic until so many transactions are stored."""

    def __init__(self, servers: Servers, database_url: str, topic: str, partitions: int, count: int) -> None:
        kafka = KafkaSettings(kafka_bootstrap_servers=servers.bootstrap, kafka_topic=topic)
        ensure_topics(kafka.bootstrap_servers, [kafka.topic], partitions)
        arguments = [str(servers.model), str(FLOOR_RECORDS), str(count), str(partitions)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.floor", *arguments],
            env={**os.environ, **environment(servers, database_url, topic)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        if (first := self._process.stderr.readline()) != "reading\n":
            raise SystemExit(f"the floor did not start:\n{first}{self._process.stderr.read()[-2000:]}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:  # something is missing: the benchmark finds out what
            self._process.kill()
            self._process.wait()


@contextmanager
def following_by_hand(
    servers: Servers, database_url: str, topic: str, partitions: int, count: int
) -> Iterator[HandWritten]:
    """The floor; it has ended when this is left."""
    floor = HandWritten(servers, database_url, topic, partitions, count)
    try:
        yield floor
    finally:
        floor.stop()


@contextmanager
def following(
    servers: Servers, database_url: str, topic: str, partitions: int, log: Path
) -> Iterator[Follower]:
    """It has ended, with its result, when this is left."""
    follower = Follower(servers, database_url, topic, partitions, log)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
