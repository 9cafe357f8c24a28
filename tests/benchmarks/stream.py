"""From topic to stored rows: the consumer with the API beside a hand-written floor, in the same run.

    ./fraud bench stream [--records 100000] [--sizes 100,1000,5000] [--repeat 5] [--quick] [--json FILE]

Starts its own broker, object store, Postgres and API. Every run reads the same topic into a fresh database;
the first of each kind warms up and does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from config.settings import KafkaSettings
from fraud_adapters.kafka import ensure_topics
from tests.benchmarks import machine, rounds
from tests.benchmarks.alone import measure_alone
from tests.benchmarks.meter import Meter
from tests.benchmarks.rounds import Run, median, spread
from tests.benchmarks.scrape import TOPIC
from tests.benchmarks.servers import Servers, vacuum
from tests.support.api_server import CLIENTS

ROOT = Path(__file__).parents[2]
QUICK: Final = {"records": 5_000, "sizes": "1000", "repeat": 2}
CONSUMER, FLOOR = "consumer", "floor"
# Throughput of the consumer as a share of the fastest floor's, by its batches; and its CPU over the floor's.
GOALS: Final = {100: 0.8, 1000: 0.9}
CPU_GOAL: Final = 1.3


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = rounds.parser(__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--sizes", default="100,1000,5000", help="batch sizes of both")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each kind")
    return rounds.parsed(parser, arguments, QUICK)


def main() -> None:
    measure_alone(run, options(sys.argv[1:]))


def run(servers: Servers, chosen: argparse.Namespace) -> dict[str, Any]:
    """All measurements; prints them and a table, and gives them."""
    fill(servers, chosen.records)
    sizes = rounds.numbers(chosen.sizes)
    runs: list[Run] = []
    turns = [(size, kind) for size in sizes for kind in (FLOOR, CONSUMER)]
    order = [*turns[:2], *(turns * chosen.repeat)]
    for number, (size, kind) in enumerate(order):
        measured = measure(servers, kind, size, number, chosen.records)
        warm_up = number < len(turns[:2])
        print(f"{line(measured)}{' (warm-up)' if warm_up else ''}", flush=True)
        if not warm_up:
            runs.append(measured)
    text, ratios = report(runs, chosen.records)
    print(f"\n{text}")
    return {"records": chosen.records, "runs": runs, "ratios": ratios, "load": machine.load()}


def fill(servers: Servers, records: int) -> None:
    """Put the transactions on the topic, as our producers write them."""
    kafka = KafkaSettings(kafka_bootstrap_servers=servers.bootstrap, kafka_topic=TOPIC)
    ensure_topics(kafka.bootstrap_servers, [kafka.topic, kafka.labels_topic, kafka.dlq_topic])
    source = random.Random(1)
    producer = Producer({"bootstrap.servers": servers.bootstrap, "enable.idempotence": True, "linger.ms": 20})
    for number in range(records):
        record = {
            "transaction_id": f"{number:08d}-0000-4000-8000-{source.getrandbits(48):012x}",
            "event_time": f"2026-03-01T{number % 24:02d}:{number % 60:02d}:00.{number % 1000:03d}Z",
            "time": round(source.uniform(0, 3e7), 2),
            "amount": round(source.lognormvariate(3, 1), 2),
            **{f"v{i}": round(source.gauss(0, 1.5), 6) for i in range(1, 29)},
        }
        identifier = str(record["transaction_id"]).encode()
        while True:
            try:
                producer.produce(
                    TOPIC, json.dumps(record).encode(), identifier, headers={"schema": b"creditcard/1"}
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0


def measure(servers: Servers, kind: str, size: int, number: int, records: int) -> Run:
    """One run in a process of its own."""
    url = servers.database(f"stream_{number}")
    vacuum(servers.stack.postgres.url())
    env = {**os.environ, **environment(servers, url, TOPIC)}
    if kind == FLOOR:
        program = ["-m", "tests.benchmarks.floor", str(servers.model), str(size), str(records), "1"]
    else:
        program = ["-m", "fraud_streaming", "run", "--batch-size", str(size), "--max-seconds", "900"]
    spent_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Meter(servers.pids) as meter:
        child = subprocess.Popen(
            [sys.executable, *program], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        meter.add(kind, child.pid)
        out, err = child.communicate(timeout=1800)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        meter.ended(
            kind,
            spent.ru_utime + spent.ru_stime - spent_before.ru_utime - spent_before.ru_stime,
        )
    if child.returncode != 0:
        raise SystemExit(f"{kind} failed: {err.decode()[-2000:]}")
    result = json.loads(out)
    assert result["stored"] == records, result
    return {
        "kind": kind,
        "size": size,
        "seconds": round(result["seconds"], 2),
        "per_second": round(records / result["seconds"]),
        "cpu_per_thousand": {
            name: round(usage.cpu * 1000 / records, 4) for name, usage in meter.usage.items()
        },
        "peak_mb": {name: round(usage.peak_mb) for name, usage in meter.usage.items()},
    }


def environment(servers: Servers, url: str, topic: str) -> dict[str, str]:
    """Of a consumer or floor that reads this topic."""
    return {
        "APP_ENV": "testing",
        "DATABASE_URL": url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap,
        "KAFKA_TOPIC": topic,
        "API_URL": servers.api.url,
        "API_CLIENT_ID": "streaming",
        "API_CLIENT_SECRET": CLIENTS["streaming"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def line(run: Run) -> str:
    parts = ", ".join(f"{name} {cpu:.3f}" for name, cpu in run["cpu_per_thousand"].items())
    memory = ", ".join(f"{name} {mb}" for name, mb in run["peak_mb"].items())
    total = sum(run["cpu_per_thousand"].values())
    speed = f"{run['kind']:9} batches of {run['size']:5}: {run['per_second']:6} tx/s"
    return f"{speed} in {run['seconds']:6.2f} s | CPU s per 1000: {total:.3f} ({parts}) | peak MB: {memory}"


def report(runs: list[Run], records: int) -> tuple[str, dict[str, Any]]:
    """A table of medians, and the ratios to the floors."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        run["cpu"] = round(sum(run["cpu_per_thousand"].values()), 4)
        groups.setdefault((run["size"], run["kind"]), []).append(run)
    speed = {key: median(own, "per_second") for key, own in groups.items()}
    cpu = {key: median(own, "cpu") for key, own in groups.items()}
    fastest = max(value for (_, kind), value in speed.items() if kind == FLOOR)
    ratios = {
        str(size): {
            "speed to the fastest floor": round(speed[size, CONSUMER] / fastest, 3),
            "speed to the floor in the same batches": round(speed[size, CONSUMER] / speed[size, FLOOR], 3),
            "CPU to the floor in the same batches": round(cpu[size, CONSUMER] / cpu[size, FLOOR], 3),
        }
        for size in dict.fromkeys(size for size, _ in groups)
    }
    table = [
        [size, kind, spread(run["per_second"] for run in own), spread((run["cpu"] for run in own), 3)]
        for (size, kind), own in groups.items()
    ]
    lines = [
        f"Batches of {size}: {', '.join(f'{name} {value}' for name, value in ratio.items())}"
        + (f"; aimed at {GOALS[int(size)]} of the fastest, CPU {CPU_GOAL}" if int(size) in GOALS else "")
        for size, ratio in ratios.items()
    ]
    text = machine.table(["batches of", "", "transactions/s", "CPU s a thousand, all processes"], table)
    note = "The floor works one step after the other; the consumer overlaps them, so it may use two cores."
    return f"{records:,} transactions\n\n{text}\n\n" + "\n".join([*lines, note]), ratios


if __name__ == "__main__":
    main()
