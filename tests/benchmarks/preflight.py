"""What the check of its parts adds to a job, in milliseconds.

    ./fraud bench preflight [--rounds 60]

In a process that has imported its clients, as a job has, `require` is called with the parts of the
producer's and of the streaming job, against real servers: the first call of a fresh process each time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
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


def measure(module: str, parts: str) -> float:
    """Milliseconds of the check in this process, which is a fresh one."""
    import importlib  # noqa: PLC0415 - so that the start of the process is the job's

    importlib.import_module(module)
    from config.services import Backend  # noqa: PLC0415
    from fraud_adapters.preflight import require  # noqa: PLC0415

    started = time.perf_counter()
    require(*(Backend[name] for name in parts.split(", ")))
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    with running(CREDITCARD) as servers:
        ensure_topics(servers.bootstrap, ["benchmark-transactions", "benchmark-labels"])
        environment = os.environ | {
            "DATABASE_URL": servers.database("preflight"),
            "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap,
            "API_URL": servers.api.url,
            "API_CLIENT_ID": "streaming",
            "API_CLIENT_SECRET": CLIENTS["streaming"],
        }
        print(f"{machine.command()}\n\n| job | median ms | 95th percentile ms |\n|---|---:|---:|")
        for name, (module, parts) in JOBS.items():
            code = f"from tests.benchmarks.preflight import measure; print(measure({module!r}, {parts!r}))"
            command = [sys.executable, "-c", code]
            taken = sorted(
                float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
                for _ in range(rounds)
            )
            print(f"| {name} | {median(taken):.1f} | {taken[int(0.95 * (rounds - 1))]:.1f} |")
            if median(taken) > LIMIT_MS:
                sys.exit(f"{name}: more than {LIMIT_MS:g} ms.")


if __name__ == "__main__":
    main()
