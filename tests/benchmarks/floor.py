"""The stream's baseline: one process with hand-written code, without API and framework.

Same reader, same parser, same model, same store, one transaction a chunk with the offsets in it; scored in
process, one step after the other. It ends once so many transactions are stored. The benchmarks `stream` and
`latency` start it; it writes a line to standard error when it begins to read.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from config.settings import DatabaseSettings, KafkaSettings, PlatformSettings, contract, load
from fraud_adapters.kafka import PartitionReader, topic_ids
from fraud_adapters.models.loading import Model
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.offsets import move_offset
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_core.features import feature_matrix
from fraud_core.manifest import Manifest
from fraud_core.predictions import Predictions
from fraud_core.records import RecordParser


def main(directory: Path, size: int, count: int, partitions: int) -> None:
    rules, kafka = contract(load(PlatformSettings)), load(KafkaSettings)
    manifest = Manifest.from_json((directory / "manifest.json").read_bytes())
    model = Model.load(directory, manifest.digest(), rules)
    parser = RecordParser(rules)
    identifier = topic_ids(kafka.bootstrap_servers, [kafka.topic])[kafka.topic]
    conn = connect(load(DatabaseSettings).url, "floor")
    positions: dict[int, int] = {}
    stored = batches = 0
    with PartitionReader(kafka.bootstrap_servers, kafka.topic, client_id="floor") as reader:
        reader.assign(dict.fromkeys(range(partitions), 0))
        print("reading", file=sys.stderr, flush=True)
        started = time.monotonic()
        while stored < count:
            records = reader.poll(size, 1.0)
            while records and len(records) < size and not reader.drained():
                records += reader.poll(size - len(records), 1.0)
            if not records:
                continue
            now = datetime.now(UTC)
            parsed = parser.parse([record.value for record in records], [now] * len(records))
            features = feature_matrix(rules, parsed.batch)
            scores = model.score_batch(features)
            predictions = Predictions.from_scores(
                scores.values,
                features,
                threshold=manifest.threshold,
                block_threshold=manifest.block_threshold,
                model_version="1",
                engine=scores.engine,
                policy_version="0",
            )
            with conn, conn.cursor() as cur:
                stored += len(store_scored(cur, rules, parsed.batch, predictions, "floor").new_rows)
                reached = reader.positions()
                for partition, offset in reached.items():
                    move_offset(cur, kafka.topic, partition, identifier, positions.get(partition), offset)
            positions = reached
            batches += 1
        seconds = time.monotonic() - started
    conn.close()
    print(json.dumps({"stored": stored, "batches": batches, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
