"""A follower as a separate process, for benchmarks."""

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
from tests.benchmarks.scrape import PARTITIONS, STORED, TOPIC, metric
from tests.benchmarks.servers import Servers
from tests.benchmarks.stream import environment
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 60.0
END_SECONDS: Final = 40.0


class Follower:
    """`python -m fraud_streaming run --follow`; owns all partitions once `start` returns."""

    def __init__(self, servers: Servers, database_url: str, partitions: int, log: Path) -> None:
        kafka = KafkaSettings(kafka_bootstrap_servers=servers.bootstrap, kafka_topic=TOPIC)
        ensure_topics(kafka.bootstrap_servers, [kafka.topic], partitions)
        ensure_topics(kafka.bootstrap_servers, [kafka.labels_topic, kafka.dlq_topic, kafka.alerts_topic])
        self._environment = {**os.environ, **environment(servers, database_url)}
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
        return int(metric(self.url, *STORED))

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=log
            )
        if not eventually(lambda: metric(self.url, *PARTITIONS) == self._partitions, READY_SECONDS):
            self._process.kill()
            raise SystemExit(f"the follower did not get its partitions:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=END_SECONDS)
        if self._process.returncode != 0:
            raise SystemExit(f"the follower failed:\n{self._log.read_text()[-2000:]}")
        self.result = json.loads(out)


@contextmanager
def following(servers: Servers, database_url: str, partitions: int, log: Path) -> Iterator[Follower]:
    """Stops the follower at the end of the block and reads its result."""
    follower = Follower(servers, database_url, partitions, log)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
