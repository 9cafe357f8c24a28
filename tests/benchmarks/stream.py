"""From topic to stored rows: the consumer with the API against a hand-written baseline, in the same run.

    ./fraud bench stream [--records 100000] [--sizes 100,1000,5000] [--repeat 1]

Starts its own broker, object store, Postgres and API. Every run reads the same topic into a fresh database.
Prints a table and, as the last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from config.settings import CONFIG_DIR, KafkaSettings
from fraud_adapters.kafka import ensure_topics
from fraud_core.contract import Contract
from tests.benchmarks.meter import Meter
from tests.benchmarks.scrape import TOPIC
from tests.benchmarks.servers import Servers, running, vacuum
from tests.support.api_server import CLIENTS

ROOT = Path(__file__).parents[2]
GOAL = 0.6  # throughput of the consumer as a share of the baseline's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--sizes", default="100,1000,5000", help="batch sizes of both")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each kind; the fastest counts")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    from config.parameters import read_yaml  # noqa: PLC0415

    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    with running(contract) as servers:
        fill(servers, options.records)
        runs: list[dict[str, Any]] = []
        number = 0
        for _ in range(options.repeat):
            kinds = [(kind, size) for size in sizes for kind in ("floor", "consumer")]
            for kind, size in kinds:
                number += 1
                runs.append(measure(servers, kind, size, number, options.records))
                print(line(runs[-1]), flush=True)
    report(runs, options.records)


def fill(servers: Servers, records: int) -> None:
    """Send the transactions to the topic in the format of the producers."""
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


def measure(servers: Servers, kind: str, size: int, number: int, records: int) -> dict[str, Any]:
    """One run in a separate process."""
    url = servers.database(number)
    vacuum(servers.stack.postgres.url())
    env = {**os.environ, **environment(servers, url)}
    if kind == "floor":
        program = ["-m", "tests.benchmarks.floor", str(servers.model), str(size)]
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


def environment(servers: Servers, url: str) -> dict[str, str]:
    return {
        "APP_ENV": "testing",
        "DATABASE_URL": url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap,
        "KAFKA_TOPIC": TOPIC,
        "API_URL": servers.api.url,
        "API_CLIENT_ID": "streaming",
        "API_CLIENT_SECRET": CLIENTS["streaming"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def line(run: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {cpu:.3f}" for name, cpu in run["cpu_per_thousand"].items())
    memory = ", ".join(f"{name} {mb}" for name, mb in run["peak_mb"].items())
    total = sum(run["cpu_per_thousand"].values())
    speed = f"{run['kind']:9} batches of {run['size']:5}: {run['per_second']:6} tx/s"
    return f"{speed} in {run['seconds']:6.2f} s | CPU s per 1000: {total:.3f} ({parts}) | peak MB: {memory}"


def report(runs: list[dict[str, Any]], records: int) -> None:
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for run in runs:
        key = (run["kind"], run["size"])
        if key not in best or run["per_second"] > best[key]["per_second"]:
            best[key] = run
    floor = max(run["per_second"] for (kind, _), run in best.items() if kind == "floor")
    print(f"\n{records} transactions; fastest floor {floor} tx/s; the goal is a ratio of {GOAL}")
    print("The floor works one step after the other; the consumer overlaps them, so it may use two cores.")
    ratios = {}
    for (kind, size), run in best.items():
        if kind == "consumer":
            same = best["floor", size]["per_second"]
            ratios[size] = {
                "fastest_floor": round(run["per_second"] / floor, 3),
                "same_batches": round(run["per_second"] / same, 3),
            }
            print(
                f"consumer in batches of {size}: {run['per_second']} tx/s, "
                f"ratio {ratios[size]['fastest_floor']} to the fastest floor, "
                f"{ratios[size]['same_batches']} to the floor in the same batches"
            )
    print(json.dumps({"records": records, "floor_per_second": floor, "ratios": ratios, "runs": runs}))


if __name__ == "__main__":
    main()
