"""How soon a follower recovers from a fault: its throughput in each second before and after the fault.

    python -m tests.faults.recovery [--rate 500] [--down 5] [--fault NAME …]

Sends a steady load by the clock, whatever happens, to a follower configured as in operation. Each fault gets
fresh topics and an empty database on the benchmark's own servers. Prints a table; the exit code is 1 if
recovery takes longer than 30 s, or if the oracle finds anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final

from fraud_adapters.kafka import KafkaFailure
from tests.faults.consumers import Consumer, ConsumerPool, pool
from tests.faults.feed import Feed
from tests.faults.oracle import Finding, judge, unread
from tests.support.killable_servers import KillableServers, Server, running_servers
from tests.support.streaming_installation import StreamInstallation, creditcard_records
from tests.support.waiting import eventually

WARM_UP_SECONDS: Final = 10
BEFORE_SECONDS: Final = 10  # seconds before the fault that define the normal throughput
AFTER_SECONDS: Final = 45
LIMIT_SECONDS: Final = 30
SHARE: Final = 0.9
STEADY_SECONDS: Final = 3  # seconds over which the recovered throughput must hold on average
TICK_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 2.0  # the sender's timeout while the broker is down
BATCH: Final = 1000  # the configured maximum of a follower's batch


class Load(Thread):
    """Sends this many transactions a second; those that fail are sent as soon as possible."""

    def __init__(self, installation: StreamInstallation, rate: float, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        self.feed = Feed(installation, seed, timeout_s=PATIENCE_SECONDS)
        self._rate = rate
        self._over = Event()
        self._values = creditcard_records([""] * 1000, seed)

    def run(self) -> None:
        started = time.monotonic()
        while not self._over.wait(TICK_SECONDS):
            due = int((time.monotonic() - started) * self._rate)
            first = len(self.feed.good)
            self._send(range(first, min(due, first + BATCH)))

    def end(self) -> None:
        self._over.set()
        self.join()

    def _send(self, numbers: Sequence[int]) -> None:
        transactions = [self._values[n % 1000] | {"transaction_id": f"load-{n}"} for n in numbers]
        while True:
            with suppress(KafkaFailure):
                self.feed.put_records(transactions)
                return
            # It is unknown which of them arrived, so all are sent again on a new connection.
            while not self._over.wait(TICK_SECONDS):
                with suppress(KafkaFailure):
                    self.feed.reconnect()
                    break


@dataclass(frozen=True, slots=True)
class Recovery:
    """The effect of one fault; `seconds` is None without recovery within `AFTER_SECONDS`."""

    fault: str
    before: float  # transactions a second
    seconds: int | None
    after: list[int]  # transactions stored in each second after the fault's end
    findings: list[Finding]

    @property
    def failed(self) -> bool:
        return self.seconds is None or self.seconds > LIMIT_SECONDS or bool(self.findings)

    def row(self) -> str:
        seconds = "never" if self.seconds is None else str(self.seconds)
        findings = "; ".join(map(str, self.findings)) or "nothing"
        return f"| {self.fault} | {self.before:.0f} | {seconds} | {findings} |"


def seconds_until_back(before: float, after: Sequence[int]) -> int | None:
    """The first second with `SHARE` of the earlier throughput that the next `STEADY_SECONDS` also average."""
    enough = SHARE * before
    for second in range(len(after) - STEADY_SECONDS + 1):
        window = after[second : second + STEADY_SECONDS]
        if window[0] >= enough and sum(window) >= enough * STEADY_SECONDS:
            return second
    return None


@dataclass
class Trial:
    """Cause one fault on an installation under load; `followers[0]` is the consumer that may be killed."""

    installation: StreamInstallation
    workers: ConsumerPool
    followers: list[Consumer]
    down: float

    def start_follower(self) -> None:
        self.followers.append(self.workers.follower(self.installation, batch=BATCH))

    def restart(self, server: Server) -> None:
        server.kill()
        time.sleep(self.down)
        server.start()

    def restart_api(self, servers: KillableServers) -> None:
        servers.kill_api()
        time.sleep(self.down)
        servers.start_api()

    def restart_follower(self) -> None:
        self.followers.pop(0).kill()
        time.sleep(self.down)
        self.start_follower()

    def lose_follower(self) -> None:
        self.followers.pop(0).kill()


def faults(servers: KillableServers) -> dict[str, tuple[int, Callable[[Trial], None]]]:
    """For each fault the number of followers and the action."""
    return {
        "api": (1, lambda trial: trial.restart_api(servers)),
        "postgres": (1, lambda trial: trial.restart(servers.postgres)),
        "tansu": (1, lambda trial: trial.restart(servers.broker)),
        "apache-kafka": (1, lambda trial: trial.restart(servers.apache_kafka())),
        "follower": (1, Trial.restart_follower),
        "follower-for-good": (2, Trial.lose_follower),
    }


def measure(
    servers: KillableServers, workers: ConsumerPool, fault: str, rate: float, down: float
) -> Recovery:
    if fault == "apache-kafka":
        servers.apache_kafka()
    count, happen = faults(servers)[fault]
    bootstrap = servers.apache_bootstrap if fault == "apache-kafka" else servers.bootstrap
    with servers.installation(bootstrap=bootstrap) as installation:
        trial = Trial(installation, workers, [], down)
        for _ in range(count):
            trial.start_follower()
        load = Load(installation, rate, seed=1)
        with load.feed:
            load.start()
            assert eventually(lambda: installation.count("transactions") > 0, 60), (
                "the follower did not start"
            )
            time.sleep(WARM_UP_SECONDS + BEFORE_SECONDS)
            began = time.time()
            happen(trial)
            ended = time.time()
            time.sleep(AFTER_SECONDS)
            load.end()
            eventually(lambda: not unread(installation) and not installation.count("alert_outbox"), 120)
            for follower in trial.followers:
                follower.stop()
            findings = judge(installation, load.feed)
        before = sum(stored_by_second(installation, began - BEFORE_SECONDS, BEFORE_SECONDS)) / BEFORE_SECONDS
        after = stored_by_second(installation, ended, AFTER_SECONDS)
    return Recovery(fault, before, seconds_until_back(before, after), after, findings)


def stored_by_second(installation: StreamInstallation, start: float, seconds: int) -> list[int]:
    """The number of transactions stored in each second from `start` (since 1970)."""
    statement = """
        SELECT floor(extract(epoch FROM prediction_time) - %s)::integer AS second, count(*)
        FROM predictions GROUP BY 1
    """
    counts: dict[int, int] = dict(installation.rows(statement, start))
    return [counts.get(second, 0) for second in range(seconds)]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=500.0, help="transactions a second")
    parser.add_argument("--down", type=float, default=5.0, help="seconds for which what was killed is away")
    parser.add_argument("--fault", nargs="*", help="only these; default: all")
    options = parser.parse_args(arguments)
    results = []
    with (
        running_servers() as servers,
        tempfile.TemporaryDirectory(prefix="fraud-recovery-") as directory,
        pool(Path(directory)) as workers,
    ):
        for fault in options.fault or faults(servers):
            results.append(measure(servers, workers, fault, options.rate, options.down))
            print(json.dumps({"fault": fault, "stored_by_second_after": results[-1].after}), flush=True)
            servers.repair()
    print(f"\n| killed, for {options.down:g} s | a second before | seconds until {SHARE:.0%} | found |")
    print("|---|---|---|---|")
    print("\n".join(result.row() for result in results))
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
