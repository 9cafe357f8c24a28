"""How much memory the consumer takes for records that are small on the wire and large unpacked.

    ./fraud bench bombs [--kafka apache] [--write]

A bounded run for each codec, as a process of its own: a good record, a record of blanks and a good one,
all in one batch, as large as a broker takes. `--write` puts what it prints into docs/results/bombs.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid

from config.parameters import read_yaml
from config.settings import CONFIG_DIR, KafkaSettings
from fraud_adapters.kafka import ensure_topics
from fraud_core.contract import Contract
from tests.benchmarks import machine
from tests.benchmarks.servers import APACHE, TANSU, Servers, running
from tests.benchmarks.stream import environment
from tests.support.bombs import BOMBS, bomb, peak_mib
from tests.support.kafka_wire import WireBatch, WireRecord, produce
from tests.support.streaming_installation import creditcard_records


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kafka", choices=(TANSU, APACHE), default=TANSU)
    parser.add_argument("--write", action="store_true", help="write docs/results/bombs.md")
    options = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    load = machine.load()
    with running(contract, kafka=options.kafka) as servers:
        rows = [measure(servers, number, codec) for number, codec in enumerate(("none", *BOMBS), start=1)]
        origin = machine.origin(servers.stack.postgres.url())
    text = f"""# Bombs: peak memory of a bounded run

    {machine.command()}

{origin} The machine's load before the run was {load:.2f}.

Three records in one batch, the middle one of blanks; `none` is a run without it.

{machine.table(["codec", "on the wire, bytes", "unpacked, bytes", "peak memory, MiB"], rows)}"""
    print(text)
    if options.write:
        (machine.RESULTS / "bombs.md").write_text(text + "\n", encoding="utf-8")
    return 0


def measure(servers: Servers, number: int, codec: str) -> list[str]:
    name = f"bombs-{uuid.uuid4().hex[:12]}"
    kafka = KafkaSettings(kafka_bootstrap_servers=servers.bootstrap, kafka_topic=f"{name}-transactions")
    ensure_topics(
        kafka.bootstrap_servers, [kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]
    )
    before, after = (json.dumps(record).encode() for record in creditcard_records(["before", "after"]))
    harmless = WireBatch([WireRecord(before), WireRecord(after)])
    data = harmless.packed() if codec == "none" else bomb(codec, before, after)
    assert produce(servers.bootstrap, kafka.topic, data) == 0
    settings = {**os.environ, **environment(servers, servers.database(number), kafka.topic)}
    peak = peak_mib([sys.executable, "-m", "fraud_streaming", "run", "--max-seconds", "60"], settings)
    return [codec, f"{len(data):,}", f"{BOMBS.get(codec, 0):,}", f"{peak:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
