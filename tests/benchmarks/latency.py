"""From produced to committed, at a given rate: open loop, real servers, a follower as it is operated.

    ./fraud bench latency [--rate 500] [--seconds 60] [--repeat 3] [--broker apache] [--quick] [--write]

Starts its own broker, object store, Postgres (durable), API, and in turns the follower and the floor, one
process that does the same by hand, each with a topic and a database of its own and a producer that keeps to
the clock. `--write` puts what it prints into docs/results/latency-BROKER.md. Exits with 1 if a transaction
is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import machine, rounds
from tests.benchmarks.follower import Follower, HandWritten, following, following_by_hand
from tests.benchmarks.meter import Meter
from tests.benchmarks.producing import identifier, start
from tests.benchmarks.servers import APACHE, TANSU, Servers, running, vacuum
from tests.benchmarks.watching import Watch, check_commit_clock, committed

QUICK: Final = {"rate": 200.0, "seconds": 3, "warm_up": 1, "repeat": 2}
FOLLOWER, FLOOR = "follower", "floor"
STALLED_SECONDS: Final = 30.0  # without anything stored, what has not come is missing
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
SETTING: Final = "track_commit_timestamp = on"  # of the Postgres it measures on


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured of n transactions, in the order they were due; times in seconds since 1970."""

    kind: str
    warm_up: int  # transactions that do not count
    book: NDArray[Any]  # [n] as `producing.ENTRY`
    recorded: NDArray[np.float64]  # [n] the commit record's time; NaN where it is not stored
    seen: NDArray[np.float64]  # [n] first seen by another session
    sizes: list[int]  # transactions in each commit
    cpu: dict[str, float]  # seconds, by process
    producer: dict[str, Any]
    follower: dict[str, Any]
    clock_shift_ms: float  # by how much the system's clock was set during the run

    @property
    def late(self) -> NDArray[np.float64]:
        """[m] milliseconds from due to seen, after the warm-up; NaN where it is missing."""
        late: NDArray[np.float64] = (self.seen - self.book["due"]) * 1000
        return late[self.warm_up :]

    @property
    def early(self) -> NDArray[np.float64]:
        """[m] the same until the commit record's time."""
        early: NDArray[np.float64] = (self.recorded - self.book["due"]) * 1000
        return early[self.warm_up :]

    @property
    def missing(self) -> int:
        return int(np.isnan(self.recorded).sum())


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = rounds.parser(__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="transactions a second")
    parser.add_argument("--seconds", type=int, default=60, help="measured, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=10, help="seconds before each measurement")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--broker", choices=(TANSU, APACHE), default=TANSU)
    parser.add_argument("--write", action="store_true", help="write docs/results/latency-BROKER.md")
    return rounds.parsed(parser, arguments, QUICK)


def main() -> int:
    chosen = options(sys.argv[1:])
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    load = machine.load()
    with running(rounds.creditcard(), SETTING, kafka=chosen.broker) as servers:
        origin = machine.origin(servers.stack.postgres.url())
        result = run(servers, chosen)
    if chosen.write:
        head = f"    {machine.command()}\n\n{origin} The machine's load before the run was {load:.2f}."
        text = f"# Latency: from produced to committed\n\n{head}\n\n{result['report']}\n"
        (machine.RESULTS / f"latency-{chosen.broker}.md").write_text(text, encoding="utf-8")
    rounds.save(chosen.json, result | {"origin": origin})
    return 1 if result["missing"] else 0


def run(servers: Servers, chosen: argparse.Namespace) -> dict[str, Any]:
    """All measurements; prints them and a report, and gives them."""
    runs = []
    for number in range(chosen.repeat):
        for kind in (FLOOR, FOLLOWER):
            measured = measure(servers, kind, number, chosen)
            runs.append(measured)
            shown = ", ".join(f"{name} {value:.1f}" for name, value in quantiles(measured.late).items())
            print(f"{kind:9}: {shown} ms; {measured.missing} missing", flush=True)
    text = report(runs, chosen.rate, chosen.partitions)
    print(f"\n{text}")
    figures = [{"kind": one.kind, **quantiles(one.late), "cpu": one.cpu} for one in runs]
    return {"report": text, "runs": figures, "missing": sum(one.missing for one in runs)}


def measure(servers: Servers, kind: str, number: int, chosen: argparse.Namespace) -> Run:
    name = f"{kind}_{number}"
    url, topic = servers.database(f"latency_{name}"), f"latency-{name.replace('_', '-')}"
    admin = servers.stack.postgres.url(database=url.rpartition("/")[2])
    check_commit_clock(admin)
    vacuum(admin)
    count = round(chosen.rate * (chosen.warm_up + chosen.seconds))
    with tempfile.TemporaryDirectory() as folder:
        book_file = Path(folder) / "book.npy"
        shift = time.time() - time.monotonic()
        consuming: AbstractContextManager[Follower | HandWritten] = (
            following_by_hand(servers, url, topic, chosen.partitions, count)
            if kind == FLOOR
            else following(servers, url, topic, chosen.partitions, Path(folder) / "follower.log")
        )
        with (
            consuming as consumer,
            Watch(admin, topic) as watch,
            Meter({**servers.pids, kind: consumer.pid}, sample_seconds=2.0) as meter,
        ):
            producer = produce(servers, topic, count, chosen.rate, book_file)
            drain(watch, producer["acknowledged"])
        shift -= time.time() - time.monotonic()
        book = np.load(book_file)
    names, moments, sizes = committed(admin)
    stored = dict(zip(names, moments, strict=True))
    recorded = np.array([stored.pop(identifier(index), np.nan) for index in range(count)])
    assert not stored, f"{len(stored)} transactions are stored that nobody sent"
    cpu = {name: round(usage.cpu, 2) for name, usage in meter.usage.items()}
    cpu["producer"] = producer["cpu_seconds"]
    seen = watch.seen(book["partition"], book["offset"])
    unseen = int(np.isnan(seen[~np.isnan(recorded)]).sum())
    assert not unseen, f"{unseen} transactions are stored whose commit was not seen"
    result = consumer.result if isinstance(consumer, Follower) else {}
    warm_up = round(chosen.rate * chosen.warm_up)
    return Run(kind, warm_up, book, recorded, seen, sizes, cpu, producer, result, abs(shift) * 1000)


def produce(servers: Servers, topic: str, count: int, rate: float, book: Path) -> dict[str, Any]:
    producer = start(servers.bootstrap, topic, count, "--rate", str(rate), "--book", str(book))
    out, _ = producer.communicate()
    if producer.returncode != 0:
        raise SystemExit("the producer failed")
    result: dict[str, Any] = json.loads(out)
    return result


def drain(watch: Watch, count: int) -> None:
    """Until everything is stored, or nothing more comes."""
    reached, deadline = -1, time.monotonic() + STALLED_SECONDS
    while reached < count and time.monotonic() < deadline:
        if (now := watch.reached()) != reached:
            reached, deadline = now, time.monotonic() + STALLED_SECONDS
        time.sleep(0.05)


def report(runs: list[Run], rate: float, partitions: int) -> str:
    by_kind = {kind: [one for one in runs if one.kind == kind] for kind in (FOLLOWER, FLOOR)}
    rows = []
    for kind, own in by_kind.items():
        rows.append([f"**{kind}**", *medians([one.late for one in own])])
        rows.append([f"{kind}, by the commit record's time", *medians([one.early for one in own])])
    acknowledged = [one.book["acknowledged"][one.warm_up :] * 1000 for one in runs]
    rows.append(["until the broker acknowledged it, both", *medians(acknowledged)])
    processes = dict.fromkeys(name for one in runs for name in one.cpu)
    cpu = [
        [name, *(per_transaction(own, name) for own in by_kind.values())]
        for name in processes
        if name not in by_kind
    ]
    cpu.append(["the consumer itself", *(per_transaction(own, kind) for kind, own in by_kind.items())])
    inverted = sum(int((one.seen < one.recorded).sum()) for one in runs)
    return f"""{rate:g} transactions a second on a topic with {partitions} partition(s), produced by the clock
(open loop), followed by `fraud_streaming run --follow` as it is operated, and in turns by the floor: one
process that reads, scores and stores by hand. Postgres is durable (`fsync`, `synchronous_commit` and
`full_page_writes` on). All processes share the machine.

Milliseconds, from the moment a transaction was due to be produced until another session saw its commit; the
median of {len(by_kind[FLOOR])} runs each, in brackets the least and the most:

{machine.table(["", *QUANTILES], rows)}

{accounts(by_kind)}

{machine.table(["CPU ms a transaction", *by_kind], cpu)}

How it is measured: a producer that is late does not hide it, because latency counts from the moment a
transaction was due. The commit record's time (`pg_xact_commit_timestamp`) is taken just before the log is
flushed to disk, so it is too early by one flush; a second session that looks at the consumer's position every
3 ms says when a commit was durable and visible, at most one look too late. The truth lies between the two
rows; {inverted} transactions were seen before the time their commit record names. The clock was moved by
{max(one.clock_shift_ms for one in runs):.1f} ms during a run at most."""


def per_transaction(runs: list[Run], process: str) -> str:
    known = [one.cpu[process] / len(one.book) * 1e3 for one in runs if process in one.cpu]
    return rounds.spread(known, 3) if known else "–"


def accounts(by_kind: dict[str, list[Run]]) -> str:
    def row(name: str, figure: Callable[[Run], int]) -> list[Any]:
        return [name, *(sum(map(figure, own)) for own in by_kind.values())]

    def results(own: list[Run], figure: Callable[[dict[str, Any]], int]) -> Any:
        return sum(figure(one.follower) for one in own) if own[0].follower else "–"

    def sizes(own: list[Run]) -> str:
        together = np.concatenate([one.sizes for one in own])
        return ", ".join(map(str, np.quantile(together, [0.5, 0.99, 1]).astype(int)))

    def lateness(own: list[Run]) -> str:
        worst = np.max([one.producer["late_ms"] for one in own], axis=0)
        return ", ".join(f"{value:.1f}" for value in worst)

    both = by_kind.values()
    rows = [
        row("sent", lambda one: one.producer["sent"]),
        row("acknowledged by the broker", lambda one: one.producer["acknowledged"]),
        row("stored", lambda one: len(one.book) - one.missing),
        row("**missing**", lambda one: one.missing),
        [
            "dead letters",
            *(results(own, lambda result: sum(result["dead_lettered"].values())) for own in both),
        ],
        ["stored a second time", *(results(own, lambda result: result["replayed"]) for own in both)],
        ["producer late in the worst run, ms: p50, p99, max", *map(lateness, both)],
        row("sent more than 10 ms late", lambda one: one.producer["late_over_10_ms"]),
        row("commits", lambda one: len(one.sizes)),
        ["transactions in a commit: p50, p99, max", *map(sizes, both)],
    ]
    return machine.table(["transactions", *by_kind], rows)


def medians(runs: list[NDArray[np.float64]]) -> list[str]:
    """Of each quantile over runs, with its spread."""
    found = [quantiles(one) for one in runs]
    return [rounds.spread((one[name] for one in found), 1) for name in QUANTILES]


def quantiles(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    known = milliseconds[~np.isnan(milliseconds)]
    if not len(known):
        return dict.fromkeys(QUANTILES, float("nan"))
    values = np.quantile(known, list(QUANTILES.values()))
    return {name: round(float(value), 2) for name, value in zip(QUANTILES, values, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
