"""Time and memory of the monitor's verb `drift` by the number of rows in its window.

    ./fraud bench drift_job [--rows 10000,100000,1000000] [--write]

Starts its own Postgres and object store, fills a database with predictions of the last hour, all with a
mature label, and runs the verb in a process of its own. `--write` puts the table into
docs/results/drift-job.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, cast

import numpy as np

from config import constants
from config.parameters import load_parameters
from config.settings import CONFIG_DIR, KafkaSettings, ObjectStoreSettings
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.postgres import connect
from fraud_core.manifest import Manifest
from fraud_core.profile import Profile, make_profile
from fraud_monitor.drift.detecting import drift
from fraud_monitor.replay.verifying import Replayer
from fraud_monitor.run_context import Champion, MlflowRuns, RunContext, Tracking
from tests.benchmarks import machine
from tests.benchmarks.servers import monitored
from tests.benchmarks.ulb import CREDITCARD
from tests.support.servers import cloned_database

EXPECTED_S: Final = 30  # of the whole DAG


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="10000,100000,1000000", help="in the window")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], json.loads(options.child[1]))))
        return
    results = []
    with monitored() as (template, _, store):
        origin, load = machine.origin(template.url("owner")), machine.load()
        for rows in sorted(map(int, options.rows.split(","))):
            with cloned_database(template, f"drift_{rows}") as database:
                fill(database, rows)
                results.append(measured(database.url("monitor"), store, rows))
                print(results[-1], flush=True)
    head = ["rows in the window", "seconds", "CPU of the job, s", "peak memory, MiB", "share of an hour"]
    text = machine.table(head, results)
    if options.write:
        begin = f"# Time and memory of drift monitoring\n\n    {machine.command()}\n\n{origin}"
        begin += (
            f" Load average before: {load:.1f}. `seconds` is the verb `drift` without the start of Python "
            f"and Airflow; the specification expects {EXPECTED_S} s of the whole DAG."
        )
        (machine.RESULTS / "drift-job.md").write_text(f"{begin}\n\n{text}\n", encoding="utf-8")
    print(text)


def child(url: str, store: dict[str, str]) -> dict[str, float]:
    """Run the verb here; gives seconds, CPU seconds and peak memory in MiB."""
    bucket = ObjectStore(ObjectStoreSettings.model_validate(store), constants.BUCKET_RUNS)
    champion = Champion("7", cast(Manifest, None), profile())
    context = RunContext(
        contract=CREDITCARD,
        parameters=load_parameters(CONFIG_DIR, "production"),
        run=RunStore(bucket, constants.DAG_DRIFT, "benchmark", ("drift",)),
        database=lambda: connect(url, "benchmark"),
        version=lambda version: cast(Replayer, version),
        champion=lambda: champion,
        tracking=lambda: cast(Tracking, None),
        tracked=cast(MlflowRuns, None),
        kafka=KafkaSettings,
        now=datetime.now(UTC),
    )
    started = monotonic()
    result = drift(context, argparse.Namespace())
    seconds = monotonic() - started
    assert result["data"] == "none", result["text"]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}


def profile() -> Profile:
    """Of features that are distributed as those of `fill`."""
    source = np.random.default_rng(1)
    rows = 50_000
    labels = (np.arange(rows) % 20 == 0).astype(np.int8)
    scores = np.where((labels == 1) & (source.random(rows) < 0.97), 0.8, 0.1)
    return make_profile(
        CREDITCARD.schema_id,
        CREDITCARD.feature_names,
        source.random((rows, len(CREDITCARD.feature_names))).astype(np.float32),
        labels,
        held_out_labels=labels,
        held_out_scores=scores,
        threshold=0.5,
    )


def measured(url: str, store: dict[str, str], rows: int) -> list[str]:
    command = [sys.executable, "-m", "tests.benchmarks.drift_job", "--child", url, json.dumps(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        f"{rows:,}",
        f"{found['seconds']:.1f}",
        f"{found['cpu']:.1f}",
        f"{found['mib']:.0f}",
        f"{found['seconds'] / 3600:.2%}",
    ]


def fill(database: Any, rows: int) -> None:
    """Predictions of the last hour and their labels; one in twenty is a fraud."""
    with closing(connect(database.url("admin"), "fill")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # Without the foreign key: transactions themselves are not read.
            cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            for statement in _FILL:
                cursor.execute(statement, {"rows": rows})
            cursor.execute("VACUUM (ANALYZE) predictions, labels")


_FILL: Final = (
    f"""
    INSERT INTO predictions (transaction_id, fraud_score, is_fraud_predicted, model_version, score, decision,
                             deciding, feature_vector, engine, prediction_time)
    SELECT 'w' || n, score, score > 0.5, '7', score, 'approve', true,
           ARRAY[{", ".join("random()::real" for _ in CREDITCARD.feature_names)}], 'xgboost-3.2.0',
           now() - interval '1 second' * (10 + 3000 * random())
    FROM (SELECT n, CASE WHEN n %% 20 = 0 AND random() < 0.97 THEN 0.8 ELSE 0.1 END AS score
          FROM generate_series(1, %(rows)s) AS n) made
    """,
    """
    INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)
    SELECT gen_random_uuid(), 'w' || n, (n %% 20 = 0)::int, 'simulator', now(), now()
    FROM generate_series(1, %(rows)s) AS n
    """,
    """
    INSERT INTO model_versions (name, version, contract, digest, gate_policy, gate_passed, gate_outcome,
                                metrics, threshold, block_threshold)
    VALUES ('fraud-creditcard', '7', 'creditcard/1', repeat('0', 64), 'specification', true, '{}', '{}',
            0.5, 0.9)
    """,
)


if __name__ == "__main__":
    main()
