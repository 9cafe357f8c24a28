"""Kills the processes that drive the running demo, one by one, and compares sent with stored transactions.

    python -m tests.faults.dags [--rounds 1] [--only scheduler,postgres]

Each victim gets `kill -9` while the real-time DAGs run. For each DAG the seconds are printed until it has
finished a run that started after the kill. At the end the producer is paused and the topic drained. Then
every record of this time must be stored once with one deciding prediction, and there must be 50 for each run
of the producer. The exit code is 1 if a record is missing or a DAG does not recover.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psutil
import psycopg2

from config.constants import DAGS_SUB_MINUTE
from fraud_adapters.kafka import PartitionReader
from fraud_embedded import operations
from fraud_embedded.installation import default_layout
from fraud_embedded.platform import Platform
from fraud_embedded.processes.process import StartFailed
from fraud_embedded.processes.supervision import Supervisor
from fraud_embedded.servers import airflow
from fraud_embedded.servers.airflow_api import AirflowApi

PRODUCER, STREAMING = DAGS_SUB_MINUTE
A_RUN: Final = 50
PATIENCE_S: Final = 240


@dataclass(frozen=True, slots=True)
class Drive:
    """The running demo and its processes that may be killed."""

    platform: Platform
    supervisor: Supervisor
    api: AirflowApi

    def server(self, name: str) -> int:
        return self.supervisor.state(name).pid

    def job(self, module: str) -> int:
        """Wait for a running job of that module."""
        return self._child(lambda arguments: module in arguments)

    def task(self) -> int:
        """Wait for a worker of the executor that has a task."""
        return self._child(
            lambda arguments: "LocalExecutor:" in " ".join(arguments) and "<idle>" not in " ".join(arguments)
        )

    def _child(self, fits: Callable[[list[str]], bool]) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for one in psutil.Process(self.server(airflow.SCHEDULER)).children(recursive=True):
                try:
                    if fits(one.cmdline()):
                        return one.pid
                except psutil.Error:
                    continue
            time.sleep(0.05)
        raise SystemExit("There is nothing to kill: do the DAGs run?")

    def victims(self) -> dict[str, Callable[[], int]]:
        return {
            "streaming job": lambda: self.job("fraud_streaming"),
            "producer job": lambda: self.job("fraud_producer"),
            "task": self.task,
            "scheduler": lambda: self.server(airflow.SCHEDULER),
            "webserver": lambda: self.server(airflow.WEBSERVER),
            "dag-processor": lambda: self.server(airflow.DAG_PROCESSOR),
            "postgres": lambda: self.server("postgres"),
            "api": lambda: self.server("api"),
            "broker": lambda: self.server("broker"),
        }

    def recovered(self, since: datetime) -> dict[str, float]:
        """Seconds until each DAG has finished a run that started after that moment."""
        seconds: dict[str, float] = {}
        began = time.monotonic()
        while len(seconds) < len(DAGS_SUB_MINUTE) and time.monotonic() - began < PATIENCE_S:
            for dag_id in DAGS_SUB_MINUTE:
                if dag_id not in seconds and self._finished(dag_id, since):
                    seconds[dag_id] = round(time.monotonic() - began, 1)
            time.sleep(0.3)
        return seconds

    def _finished(self, dag_id: str, since: datetime) -> bool:
        try:
            return any(run.state == "success" for run in self.api.runs(dag_id, since, limit=20))
        except StartFailed:
            return False  # Airflow's API itself was killed

    def ends(self) -> dict[int, int]:
        """The end offset of each partition of the transactions topic."""
        positions: dict[int, int] = {}
        servers = self.platform.stack.broker.bootstrap.split(",")
        topic = self.platform.topics()[0]
        stored = self.stored()
        with PartitionReader(servers, topic, client_id="dags") as reader:
            for partition in reader.partitions():
                reader.assign({partition: stored.get(partition, 0)})
                while partition not in positions:
                    reader.poll(1, timeout_s=1)
                    positions |= reader.high_watermarks()
        return positions

    def beginning(self) -> tuple[dict[int, int], datetime]:
        """The partitions' end offsets and the time, taken between two runs of the producer."""
        self.pause_between_runs()
        try:
            return self.ends(), datetime.now(UTC)
        finally:
            self.api.pause(PRODUCER, paused=False)

    def pause_between_runs(self) -> None:
        """Pause the producer between two runs, because a run of a paused DAG would never end."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if not self._at_work():
                self.api.pause(PRODUCER, paused=True)
                if not self._at_work():
                    return
            self.api.pause(PRODUCER, paused=False)
            time.sleep(0.1)
        raise SystemExit(f"{PRODUCER} is always at work: there is no moment to count at.")

    def _at_work(self) -> bool:
        return any(run.state in ("running", "queued") for run in self.api.runs(PRODUCER, limit=5))

    def stored(self) -> dict[int, int]:
        """The consumer's position in each partition."""
        statement = "SELECT partition, next_offset FROM stream_offsets WHERE topic = %s"
        url = self.platform.database_url("readonly")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, (self.platform.topics()[0],))
            return dict(cursor.fetchall())

    def sent(self, start: dict[int, int]) -> list[str]:
        """The keys of all records since those offsets."""
        keys: list[str] = []
        ends = self.ends()
        servers = self.platform.stack.broker.bootstrap.split(",")
        with PartitionReader(servers, self.platform.topics()[0], client_id="dags") as reader:
            for partition, end in ends.items():
                position = start.get(partition, 0)
                reader.assign({partition: position})
                while position < end:
                    for record in reader.poll(1000, timeout_s=2):
                        keys.append((record.key or b"").decode())
                        position = record.offset + 1
        return keys


def main() -> int:
    options = _parser().parse_args()
    platform = operations.existing(default_layout(), dict(os.environ))
    drive = Drive(platform, Supervisor(platform.layout), AirflowApi(platform.airflow()))
    if not drive.supervisor.running():
        sys.exit("The platform is not running: ./fraud demo starts it.")
    victims = drive.victims()
    chosen = options.only.split(",") if options.only else list(victims)
    start, began = drive.beginning()
    failed = 0
    for round_number in range(options.rounds):
        for name in chosen:
            pid = victims[name]()
            _linger(random.Random(options.seed + round_number))
            failed += _kill(drive, name, pid if psutil.pid_exists(pid) else victims[name]())
    return 1 if _judge(drive, start, began) or failed else 0


def _linger(chance: random.Random) -> None:
    """Wait for a random time, so that kills hit different moments of a run."""
    time.sleep(chance.uniform(0, 0.3))


def _kill(drive: Drive, name: str, pid: int) -> int:
    since = datetime.now(UTC)
    os.kill(pid, signal.SIGKILL)
    seconds = drive.recovered(since)
    for dag_id in DAGS_SUB_MINUTE:
        outcome = f"{seconds[dag_id]:.1f} s" if dag_id in seconds else f"not in {PATIENCE_S} s"
        print(f"{name:<15}{dag_id:<26}{outcome}", flush=True)
    return len(DAGS_SUB_MINUTE) - len(seconds)


def _judge(drive: Drive, start: dict[int, int], began: datetime) -> int:
    """Print the missing and surplus records; returns the number of findings."""
    drive.pause_between_runs()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and drive.stored() != drive.ends():
            time.sleep(1)
        keys = drive.sent(start)
        runs = drive.api.runs(PRODUCER, began, limit=1000)
    finally:
        drive.api.pause(PRODUCER, paused=False)
    statement = """
        SELECT t.transaction_id, count(p.*) FROM transactions t
        LEFT JOIN predictions p ON p.transaction_id = t.transaction_id AND p.deciding
        WHERE t.transaction_id = ANY(%s) GROUP BY 1
    """
    url = drive.platform.database_url("readonly")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, (sorted(set(keys)),))
        decisions = dict(cursor.fetchall())
    different = set(keys)
    complete = [run for run in runs if run.state == "success"]
    failures = [run.run_id for run in runs if run.state == "failed"]
    print(f"{len(keys)} records, {len(different)} transactions, {len(complete)} runs of the producer")
    findings = {
        "lost": different - decisions.keys(),
        "not decided once": {key for key, count in decisions.items() if count != 1},
        "runs that failed": set(failures),
    }
    if len(different) != A_RUN * len(complete):
        findings["sent other than 50 a run"] = {str(len(different) - A_RUN * len(complete))}
    for name, ids in findings.items():
        if ids:
            print(f"{name}: {len(ids)} ({', '.join(sorted(ids)[:5])})")
    if not any(findings.values()):
        print("Nothing is lost, nothing is doubled.")
    return sum(map(len, findings.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.dags",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="victims, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
