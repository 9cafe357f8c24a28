"""What the check of its parts adds to a job, in milliseconds.

    ./fraud bench preflight [--rounds 60]

In a process that has imported its clients, as a job has, `require` is called with the parts of the
producer's and of the streaming job, against real servers: the first call of a fresh process each time. On a
busy machine the processor's time says more than the clock. Exits with 1 if a median is above 30 ms.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from statistics import median

from fraud_adapters.kafka import ensure_topics
from tests.benchmarks import machine
from tests.benchmarks.servers import running
from tests.support.api_server import CLIENTS
from tests.support.stored_rows import CREDITCARD

JOBS = {
    "producer": ("fraud_producer.job", "POSTGRES, KAFKA"),
    "streaming": ("fraud_streaming.consume.job", "POSTGRES, KAFKA, API"),
}
LIMIT_MS = 30.0


def measure(module: str, parts: str) -> tuple[float, float]:
    """Milliseconds of the check in this process, which is a fresh one: by the clock, and of the processor."""
    import importlib  # noqa: PLC0415 - so that the start of the process is the job's

    importlib.import_module(module)
    from config.services import Backend  # noqa: PLC0415
    from fraud_adapters.preflight import require  # noqa: PLC0415

    started, used = time.perf_counter(), time.process_time()
    require(*(Backend[name] for name in parts.split(", ")))
    return (time.perf_counter() - started) * 1000, (time.process_time() - used) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    load = machine.load()
    with running(CREDITCARD) as servers:
        ensure_topics(servers.bootstrap, ["benchmark-transactions", "benchmark-labels"])
        environment = os.environ | {
            "DATABASE_URL": servers.database("preflight"),
            "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap,
            "API_URL": servers.api.url,
            "API_CLIENT_ID": "streaming",
            "API_CLIENT_SECRET": CLIENTS["streaming"],
        }
        head = ["job", "median ms", "95th percentile ms", "of the processor, median ms"]
        figures = {name: _figures(environment, *job, rounds) for name, job in JOBS.items()}
    rows = [[name, *(f"{one:.1f}" for one in found)] for name, found in figures.items()]
    print(f"{machine.command()}\n\nLoad average: {load:.1f}.\n\n{machine.table(head, rows)}")
    slow = [name for name, found in figures.items() if found[0] > LIMIT_MS]
    if slow:
        sys.exit(f"{' and '.join(slow)}: more than {LIMIT_MS:g} ms.")


def _figures(
    environment: Mapping[str, str], module: str, parts: str, rounds: int
) -> tuple[float, float, float]:
    code = f"from tests.benchmarks.preflight import measure; print(*measure({module!r}, {parts!r}))"
    command = [sys.executable, "-c", code]
    answers = [
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout.split()
        for _ in range(rounds)
    ]
    taken = sorted(float(clock) for clock, _ in answers)
    return median(taken), taken[int(0.95 * (rounds - 1))], median(float(used) for _, used in answers)


if __name__ == "__main__":
    main()
