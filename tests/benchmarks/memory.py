"""Whether a follower's memory grows with what it has stored: real servers, many transactions, one process.

    ./fraud bench memory [--transactions 1000000] [--write]

The producer stays at most 20,000 transactions ahead. Memory is sampled every second; over the last 75 % of
the transactions a straight line is fitted. Exits with 1 if that line rises by more than 5 % or 20 MiB, or if
a transaction is missing. `--write` puts what it prints into docs/results/memory.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from tests.benchmarks import machine
from tests.benchmarks.follower import Follower, following
from tests.benchmarks.producing import start
from tests.benchmarks.scrape import TOPIC
from tests.benchmarks.servers import Servers, running, vacuum

AHEAD: Final = 20_000
SAMPLE_SECONDS: Final = 1.0
STALLED_SECONDS: Final = 60.0
SETTLED: Final = 0.25  # share of the transactions; what is allocated before it does not count as growth
MAX_SHARE: Final = 0.05
MAX_MIB: Final = 20.0
SHARES: Final = (0.1, 0.25, 0.5, 1.0)


@dataclass
class Samples:
    """Memory of one process in MiB, by the number of stored transactions."""

    pid: int
    stored: list[int] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    proportional: list[float] = field(default_factory=list)

    def take(self, stored: int) -> None:
        try:
            memory = psutil.Process(self.pid).memory_full_info()
        except psutil.NoSuchProcess:
            return
        if not memory.rss:  # a zombie: ended, but not yet waited for
            return
        self.stored.append(stored)
        self.resident.append(memory.rss / 2**20)
        self.proportional.append(memory.pss / 2**20)

    def at(self, share: float, kind: str = "resident") -> float:
        """The last sample up to that share of the transactions."""
        threshold = share * self.stored[-1]
        return float(getattr(self, kind)[max(0, np.searchsorted(self.stored, threshold, side="right") - 1)])

    def slope(self) -> float:
        """KiB for each 1,000 transactions, by least squares over the settled part."""
        stored, resident = np.array(self.stored), np.array(self.resident)
        settled = stored >= SETTLED * stored[-1]
        return float(np.polyfit(stored[settled], resident[settled], 1)[0]) * 1024 * 1000

    def growth(self) -> float:
        """MiB over the settled part, as the fitted line has it."""
        return self.slope() / 1024 / 1000 * (1 - SETTLED) * self.stored[-1]

    def grows(self) -> bool:
        return self.growth() > min(MAX_MIB, MAX_SHARE * self.at(SETTLED))


@dataclass(frozen=True, slots=True)
class Run:
    samples: dict[str, Samples]
    stored: int
    seconds: float
    producer: dict[str, Any]
    follower: dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help="write docs/results/memory.md")
    options = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    load = machine.load()
    with running(contract) as servers:
        run = measure(servers, options.transactions)
        origin = machine.origin(servers.stack.postgres.url())
    text = report(run, origin, load)
    print(text)
    if options.write:
        (machine.RESULTS / "memory.md").write_text(text + "\n", encoding="utf-8")
    return 1 if run.samples["follower"].grows() or run.stored != options.transactions else 0


def measure(servers: Servers, count: int) -> Run:
    url = servers.database(1)
    vacuum(servers.stack.postgres.url())
    with (
        tempfile.TemporaryDirectory() as folder,
        following(servers, url, TOPIC, 1, Path(folder) / "follower.log") as follower,
    ):
        began = time.monotonic()
        producer = start(servers.bootstrap, TOPIC, count, "--metrics", follower.url, "--ahead", str(AHEAD))
        watched = {"follower": follower.pid, "api": servers.pids["api"], "producer": producer.pid}
        samples = {name: Samples(pid) for name, pid in watched.items()}
        stored = sample(samples, follower, count)
        seconds = time.monotonic() - began
        if stored < count:
            producer.kill()
        out, _ = producer.communicate()
    return Run(samples, stored, seconds, json.loads(out or "{}"), follower.result)


def sample(samples: dict[str, Samples], follower: Follower, count: int) -> int:
    """Wait until everything is stored, or nothing more arrives; returns the number stored."""
    stored, deadline = 0, time.monotonic() + STALLED_SECONDS
    while stored < count and time.monotonic() < deadline:
        time.sleep(SAMPLE_SECONDS)
        if (now := follower.stored()) != stored:
            stored, deadline = now, time.monotonic() + STALLED_SECONDS
        for each in samples.values():
            each.take(stored)
    return stored


def report(run: Run, origin: str, load: float) -> str:
    follower = run.samples["follower"]
    heads = [f"at {share:.0%}" for share in SHARES]
    rows = [[name, *(f"{each.at(share):.1f}" for share in SHARES)] for name, each in run.samples.items()]
    shares = [f"{follower.at(share, 'proportional'):.1f}" for share in SHARES]
    rows.insert(1, ["follower, proportional", *shares])
    total = follower.growth()
    verdict = "grows" if follower.grows() else "does not grow"
    return f"""# Memory: the follower over {run.stored:,} transactions

    {machine.command()}

{origin} The machine's load before the run was {load:.2f}.

Stored {run.stored:,} in {run.seconds:.0f} s, {run.stored / run.seconds:,.0f} a second, in
{run.follower["batches"]:,} batches; the producer stayed at most {AHEAD:,} ahead.
{run.follower["replayed"]} were stored a second time.

Resident memory, MiB, after so many of the transactions (the producer keeps a book of all, so it grows):

{machine.table(["", *heads], rows)}

Over the last {1 - SETTLED:.0%} of the transactions the follower's line of least squares, through
{len(follower.stored)} samples in all, rises by {follower.slope():.2f} KiB for each 1,000 transactions,
{total:.1f} MiB in all: the memory **{verdict}** (allowed: {MAX_SHARE:.0%} and {MAX_MIB:.0f} MiB)."""


if __name__ == "__main__":
    sys.exit(main())
