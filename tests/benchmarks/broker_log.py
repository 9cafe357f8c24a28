"""How reads slow down with the requests a partition of the embedded broker holds, and what trimming gives.

    ./fraud bench broker_log --requests 500,2500,5000

Each request holds ten records of 500 bytes. Measured before and after the log was trimmed to what the
platform keeps (500 requests), on otherwise idle servers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from config import constants
from config.settings import ObjectStoreSettings
from fraud_adapters.kafka import PartitionReader, Publisher, ensure_topics
from fraud_adapters.objectstore import ObjectStore
from fraud_embedded.processes.process import Running
from fraud_embedded.servers import broker, objectstore
from fraud_embedded.servers.broker_log import Log, read_by_all
from fraud_embedded.trim import Keep
from tests.benchmarks.machine import command
from tests.support.servers import configured_stack

TOPIC = "benchmark"
RECORDS = 10
VALUE = b"x" * 500
TRIALS = 5
READ_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Servers:
    bootstrap: str
    log: Log


@contextmanager
def running() -> Iterator[Servers]:
    """Object store and broker, in a directory that goes away."""
    with configured_stack(durable=True) as stack:
        objectstore.prepare(stack.objectstore)
        broker.prepare(stack.broker)
        started: list[Running] = []
        try:
            for spec in (objectstore.spec(stack.objectstore), broker.spec(stack.broker)):
                started.append(Running(spec, spec.cwd.parent / f"{spec.name}.log"))
                started[-1].wait_ready(120)
            environment = stack.objectstore.bucket_environment(constants.BUCKET_BROKER)
            settings = {name.lower(): value for name, value in environment.items()}
            store = ObjectStore(ObjectStoreSettings.model_validate(settings), constants.BUCKET_BROKER)
            yield Servers(stack.broker.bootstrap, Log(store))
        finally:
            for one in reversed(started):
                one.stop(patience_s=2)
            objectstore.remove_sockets(stack.objectstore.internal_ports)


class Measured:
    """One partition that grows."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._end = 0
        ensure_topics(servers.bootstrap, [TOPIC])

    def grow(self, requests: int) -> None:
        with Publisher(self._servers.bootstrap) as publisher:
            while self._end < requests * RECORDS:
                self._send(publisher)

    def row(self, label: str) -> str:
        """A line of the table, in milliseconds and records a second."""
        held = len(self._servers.log.batches(TOPIC)[0])
        at_end, run, start = self._at_the_end(), self._bounded(), self._from_the_start()
        return f"| {label} | {held:,} | {at_end:.0f} | {run:.0f} | {start:,.0f} |"

    def trim(self) -> float:
        """Remove what a consumer at the end has read; seconds."""
        started = time.perf_counter()
        batches = self._servers.log.batches(TOPIC)[0]
        self._servers.log.remove(read_by_all(batches, self._end, Keep().requests))
        return time.perf_counter() - started

    def _send(self, publisher: Publisher) -> None:
        for _ in range(RECORDS):
            publisher.send(TOPIC, b"key", VALUE)
        publisher.flush()
        self._end += RECORDS

    def _at_the_end(self) -> float:
        """From an acknowledged request to its last record, for a consumer that waits at the end; median."""
        seconds = []
        with Publisher(self._servers.bootstrap) as publisher, self._reader(self._end) as reader:
            reader.poll(1, 1)
            for _ in range(TRIALS):
                self._send(publisher)
                started = time.perf_counter()
                while reader.positions()[0] < self._end:
                    reader.poll(1000, 1)
                seconds.append(time.perf_counter() - started)
        return 1000 * statistics.median(seconds)

    def _bounded(self) -> float:
        """A run that connects, reads the latest five requests and sees the end; median."""
        seconds = []
        for _ in range(TRIALS):
            started = time.perf_counter()
            with self._reader(self._end - 5 * RECORDS) as reader:
                while not reader.drained():
                    reader.poll(100, 1)
            seconds.append(time.perf_counter() - started)
        return 1000 * statistics.median(seconds)

    def _from_the_start(self) -> float:
        """Records a second, over at most `READ_SECONDS`."""
        with self._reader(0) as reader:
            reader.assign(reader.earliest_offsets())
            count, started = 0, time.perf_counter()
            while time.perf_counter() - started < READ_SECONDS and not reader.drained():
                count += len(reader.poll(1000, 1))
            return count / (time.perf_counter() - started)

    @contextmanager
    def _reader(self, offset: int) -> Iterator[PartitionReader]:
        with PartitionReader(self._servers.bootstrap, TOPIC, client_id="benchmark") as reader:
            reader.assign({0: offset})
            yield reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", default="500,2500,5000", help="how many a partition holds, in turn")
    counts = [int(text) for text in parser.parse_args().requests.split(",")]
    print(f"    {command()}\n")
    print("| | requests held | at the end, ms | bounded run of five, ms | from the start, records/s |")
    print("|---|---|---|---|---|")
    with running() as servers:
        measured = Measured(servers)
        for count in counts:
            measured.grow(count)
            print(measured.row(f"{count:,} sent"), flush=True)
        seconds = measured.trim()
        print(measured.row(f"trimmed, in {seconds:.1f} s"), flush=True)


if __name__ == "__main__":
    main()
