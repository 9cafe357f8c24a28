"""From produced to committed, at a given rate: open loop, real servers, a follower as it is operated.

    ./fraud bench latency [--rate 500] [--seconds 300] [--broker apache] [--write]

Starts its own broker, object store, Postgres (durable), API, follower, and a producer that keeps to the
clock. `--write` puts what it prints into docs/results/latency-BROKER.md. Exits with 1 if a transaction is
missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from tests.benchmarks import machine
from tests.benchmarks.follower import Follower, following
from tests.benchmarks.meter import Meter
from tests.benchmarks.producing import identifier, start
from tests.benchmarks.scrape import TOPIC
from tests.benchmarks.servers import APACHE, TANSU, Servers, running, vacuum
from tests.benchmarks.watching import Watch, check_commit_clock, committed

WARM_UP_SECONDS: Final = 10
STALLED_SECONDS: Final = 30.0  # without a new row for this time, the rest counts as missing
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured of n transactions, in the order they were due; times in seconds since 1970."""

    book: NDArray[Any]  # [n] as `producing.ENTRY`
    recorded: NDArray[np.float64]  # [n] the commit record's time; NaN where it is not stored
    seen: NDArray[np.float64]  # [n] first seen by another session
    sizes: list[int]  # transactions in each commit
    cpu: dict[str, float]  # seconds, by process
    producer: dict[str, Any]
    follower: dict[str, Any]
    clock_shift_ms: float  # by how much the system's clock was set during the run

    @property
    def missing(self) -> int:
        return int(np.isnan(self.recorded).sum())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=500.0, help="transactions a second")
    parser.add_argument("--seconds", type=int, default=300, help="measured, after the warm-up")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--broker", choices=(TANSU, APACHE), default=TANSU)
    parser.add_argument("--write", action="store_true", help="write docs/results/latency-BROKER.md")
    options = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    load = machine.load()
    with running(contract, "track_commit_timestamp = on", kafka=options.broker) as servers:
        run = measure(servers, options.rate, options.seconds, options.partitions)
        origin = machine.origin(servers.stack.postgres.url())
    text = report(run, options.rate, options.partitions, origin, load)
    print(text)
    if options.write:
        (machine.RESULTS / f"latency-{options.broker}.md").write_text(text + "\n", encoding="utf-8")
    return 1 if run.missing else 0


def measure(servers: Servers, rate: float, seconds: int, partitions: int) -> Run:
    url = servers.database(1)
    admin = servers.stack.postgres.url(database=url.rpartition("/")[2])
    check_commit_clock(admin)
    vacuum(admin)
    count = round(rate * (WARM_UP_SECONDS + seconds))
    with tempfile.TemporaryDirectory() as folder:
        book_file = Path(folder) / "book.npy"
        shift = time.time() - time.monotonic()
        with (
            following(servers, url, partitions, Path(folder) / "follower.log") as follower,
            Watch(admin, TOPIC) as watch,
            Meter({**servers.pids, "follower": follower.pid}, sample_seconds=2.0) as meter,
        ):
            producer = produce(servers, count, rate, book_file)
            drain(follower, producer["acknowledged"])
        shift -= time.time() - time.monotonic()
        book = np.load(book_file)
    names, moments, sizes = committed(admin)
    stored = dict(zip(names, moments, strict=True))
    recorded = np.array([stored.pop(identifier(number), np.nan) for number in range(count)])
    assert not stored, f"{len(stored)} transactions are stored that nobody sent"
    cpu = {name: round(usage.cpu, 2) for name, usage in meter.usage.items()}
    cpu["producer"] = producer["cpu_seconds"]
    seen = watch.seen(book["partition"], book["offset"])
    unseen = int(np.isnan(seen[~np.isnan(recorded)]).sum())
    assert not unseen, f"{unseen} transactions are stored whose commit was not seen"
    return Run(book, recorded, seen, sizes, cpu, producer, follower.result, abs(shift) * 1000)


def produce(servers: Servers, count: int, rate: float, book: Path) -> dict[str, Any]:
    producer = start(servers.bootstrap, count, "--rate", str(rate), "--book", str(book))
    out, _ = producer.communicate()
    if producer.returncode != 0:
        raise SystemExit("the producer failed")
    result: dict[str, Any] = json.loads(out)
    return result


def drain(follower: Follower, count: int) -> None:
    """Wait until everything is stored, or nothing more arrives."""
    stored, deadline = -1, time.monotonic() + STALLED_SECONDS
    while stored < count and time.monotonic() < deadline:
        if (now := follower.stored()) != stored:
            stored, deadline = now, time.monotonic() + STALLED_SECONDS
        time.sleep(0.2)


def report(run: Run, rate: float, partitions: int, origin: str, load: float) -> str:
    warm_up = round(rate * WARM_UP_SECONDS)
    due = run.book["due"]
    late = (run.seen - due) * 1000
    early = (run.recorded - due) * 1000
    inverted = int((run.seen < run.recorded).sum())
    rows = [
        ["**whole run**", *quantiles(late[warm_up:])],
        ["by the commit record's time", *quantiles(early[warm_up:])],
        ["until the broker acknowledged it", *quantiles(run.book["acknowledged"][warm_up:] * 1000)],
        [f"the {WARM_UP_SECONDS} s of warm-up, not counted above", *quantiles(late[:warm_up])],
    ]
    minute = ((due[warm_up:] - due[warm_up]) // 60).astype(int)
    rows += [
        [f"minute {n + 1}", *quantiles(late[warm_up:][minute == n])] for n in range(int(minute.max()) + 1)
    ]
    cpu = [[name, seconds, f"{seconds / len(due) * 1e3:.3f}"] for name, seconds in run.cpu.items()]
    return f"""# Latency: from produced to committed

    {machine.command()}

{origin} The machine's load before the run was {load:.2f}.

{rate:g} transactions a second on a topic with {partitions} partition(s), produced by the clock (open loop),
followed by `fraud_streaming run --follow` as it is operated; Postgres is durable (`fsync`,
`synchronous_commit` and `full_page_writes` on). All processes share the machine.

Milliseconds, from the moment a transaction was due to be produced until another session saw its commit:

{machine.table(["", *QUANTILES], rows)}

{accounts(run, warm_up)}

{machine.table(["CPU", "seconds", "ms a transaction"], cpu)}

How it is measured: a producer that is late does not hide it, because latency counts from the moment a
transaction was due. The commit record's time (`pg_xact_commit_timestamp`) is taken just before the log is
flushed to disk, so it is too early by one flush; a second session that looks at the follower's position every
3 ms says when a commit was durable and visible, at most one look too late. The truth lies between the two
rows; {inverted} transactions were seen before the time their commit record names. The clock was moved by
{run.clock_shift_ms:.1f} ms during the run."""


def accounts(run: Run, warm_up: int) -> str:
    producer = run.producer
    sizes = np.quantile(run.sizes, [0.5, 0.99, 1]).astype(int)
    rows = [
        ["sent", producer["sent"]],
        ["acknowledged by the broker", producer["acknowledged"]],
        ["stored", len(run.book) - run.missing],
        ["**missing**", f"**{run.missing}**"],
        ["dead letters", sum(run.follower["dead_lettered"].values())],
        ["stored a second time", run.follower["replayed"]],
        ["producer late, ms: p50, p99, max", ", ".join(map(str, producer["late_ms"]))],
        ["sent more than 10 ms late", producer["late_over_10_ms"]],
        ["measured, after the warm-up", len(run.book) - warm_up],
        ["commits", len(run.sizes)],
        ["transactions in a commit: p50, p99, max", ", ".join(map(str, sizes))],
    ]
    return machine.table(["transactions", ""], rows)


def quantiles(milliseconds: NDArray[np.float64]) -> list[str]:
    known = milliseconds[~np.isnan(milliseconds)]
    if not len(known):
        return ["–"] * len(QUANTILES)
    return [f"{value:.1f}" for value in np.quantile(known, list(QUANTILES.values()))]


if __name__ == "__main__":
    sys.exit(main())
