"""Time and memory of the monitor's jobs by the number of rows in their window, and the plans of their SQL.

    ./fraud bench monitor [--rows 10000,100000,1000000] [--history 1000000] [--write]

Starts its own Postgres and broker, fills a database with history and a window of each size, and runs each
verb in a process of its own. Exits with 1 if, for the smallest window, a statement reads a whole table.
`--write` puts what it prints into docs/results/monitor.md.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from config.settings import KafkaSettings, ObjectStoreSettings
from fraud_adapters.kafka import Publisher, ensure_topics, topic_ids
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.placement import NUMERIC_COLUMNS
from fraud_monitor.performance.verbs import performance
from fraud_monitor.quality.verbs import quality
from tests.benchmarks import machine
from tests.benchmarks.plans import shortened
from tests.benchmarks.servers import monitored
from tests.support.monitor_installation import MonitorInstallation, champion
from tests.support.servers import cloned_database

VERBS: Final = {
    "quality": ("04_data_quality", quality, 60),
    "performance": ("06_model_performance_tracking", performance, 120),
}
TRACED: Final = 20_000


@dataclass(frozen=True)
class Place:
    """Where a child process finds the servers; JSON on its command line."""

    url: str
    bootstrap: str
    topic: str
    store: dict[str, str]

    def installation(self) -> MonitorInstallation:
        known = champion(metrics={"recall": 0.97, "precision": 0.9, "f1": 0.93})
        installation = MonitorInstallation(
            _OneUrl(self.url),
            KafkaSettings(kafka_bootstrap_servers=self.bootstrap, kafka_topic=self.topic),
            store=ObjectStoreSettings.model_validate(self.store),
            champion=lambda: known,
        )
        # What `performance` judges is the same rows.
        installation.with_parameters("performance", window=timedelta(minutes=65))
        return installation


@dataclass(frozen=True)
class _OneUrl:
    address: str

    def url(self, role: str) -> str:
        assert role == "monitor"
        return self.address


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="10000,100000,1000000", help="in the window")
    parser.add_argument("--history", type=int, default=1_000_000, help="rows of the days before")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], Place(**json.loads(options.child[1])))))
        return
    sizes = sorted(map(int, options.rows.split(",")))
    results: list[list[Any]] = []
    wrong: list[str] = []
    with monitored() as (template, bootstrap, store):
        origin = machine.origin(template.url("owner"))
        for rows in sizes:
            with cloned_database(template, f"monitor_{rows}") as database:
                place = fill(database, bootstrap, store, rows, options.history)
                for verb in VERBS:
                    results.append([verb, f"{rows:,}", *measured(verb, place)])
                    print(results[-1], flush=True)
                if rows == sizes[0]:
                    wrong = plans(database, place)
    text = machine.table(
        ["verb", "rows in the window", "seconds", "CPU of the job, s", "peak memory, MiB",
         "expected of the DAG, s", "share of an hour"], results
    )  # fmt: skip
    print(text)
    if options.write:
        head = f"# Jobs of the monitor\n\n    {machine.command()}\n\n{origin}\n\n{INTRODUCTION}"
        (machine.RESULTS / "monitor.md").write_text(
            f"{head.format(history=options.history)}\n\n{text}\n", encoding="utf-8"
        )
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


INTRODUCTION: Final = """\
Each verb in a process of its own, on a table with {history:,} rows of the days before. `seconds` is the verb
itself, without the start of Python and Airflow; `quality` follows 20,000 records of the topic to the tables.
`performance` stores its report; its MLflow run is not part of it. The last columns compare with the duration
that the specification expects of the DAG, and say which share of one core an hourly run takes. For the
smallest window no statement reads a whole table, else the benchmark fails."""


def child(verb: str, place: Place) -> dict[str, float]:
    """Run a verb here; gives seconds, CPU seconds and peak memory in MiB."""
    dag, run, _ = VERBS[verb]
    with place.installation().context("benchmark", dag) as context:
        started = monotonic()
        result: Any = run(context, argparse.Namespace())
        seconds = monotonic() - started
    assert result["status"] == "done"
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / 1024,
    }


def measured(verb: str, place: Place) -> list[str]:
    arguments = ["-m", "tests.benchmarks.monitor", "--child", verb, json.dumps(place.__dict__)]
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        f"{found['seconds']:.1f}", f"{found['cpu']:.1f}", f"{found['mib']:.0f}", f"{VERBS[verb][2]}",
        f"{found['seconds'] / 3600:.2%}",
    ]  # fmt: skip


def fill(database: Any, bootstrap: str, store: dict[str, str], rows: int, history: int) -> Place:
    """History of the days before, and a window of the last hour whose truth is known; and the topic."""
    topic = f"bench{rows}-transactions"
    names = KafkaSettings(kafka_bootstrap_servers=bootstrap, kafka_topic=topic)
    ensure_topics(bootstrap, [names.topic, names.labels_topic])
    with closing(connect(database.url("admin"), "fill")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            for prefix, count, hours, offset in (("h", history, 24 * 30, 2), ("w", rows, 1, 0)):
                for statement in _FILL:
                    cursor.execute(
                        statement, {"prefix": prefix, "rows": count, "hours": hours, "offset": offset}
                    )
            for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):
                cursor.execute(statement)
            sent = min(rows, TRACED)
            with Publisher(bootstrap) as publisher:
                for number in range(1, sent + 1):
                    identifier = f"w{number}"
                    value = json.dumps({"transaction_id": identifier, "padding": "x" * 600}).encode()
                    publisher.send(topic, identifier.encode(), value)
                publisher.flush()
            topic_id = topic_ids(bootstrap, [topic])[topic]
            cursor.execute(
                "INSERT INTO stream_offsets (topic, partition, topic_id, next_offset) VALUES (%s, 0, %s, %s)",
                (topic, topic_id, sent),
            )
    return Place(database.url("monitor"), bootstrap, topic, store)


def plans(database: Any, place: Place) -> list[str]:
    """Statements that read a whole table although the window is small."""
    with closing(connect(database.url("admin"), "plans")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            name = (cursor.fetchone() or ("",))[0]
            for setting in _EXPLAINED:
                cursor.execute(f'ALTER DATABASE "{name}" SET {setting}')
    wrong: list[str] = []
    installation = place.installation()
    for verb, (dag, run, _) in VERBS.items():
        notices: list[str] = []

        def database_of(collected: list[str] = notices) -> Any:
            opened = connect(place.url, "plans")
            opened.notices = collected  # the driver's own list keeps the last fifty
            return opened

        with installation.context("plans", dag) as context:
            run(replace(context, database=database_of), argparse.Namespace())
        scans = [shortened(notice) for notice in notices if _SCAN.search(notice)]
        assert scans, "the server logged no plan"
        print(f"## Plans of {verb}\n\n" + "\n\n".join(scans), flush=True)
        wrong += [f"{verb}: {line}" for plan in scans for line in plan.splitlines() if _WHOLE.search(line)]
    return wrong


_LARGE: Final = "transactions|predictions|labels"
_SCAN: Final = re.compile(rf"(?:Scan|using \S+) on (?:public\.)?(?:{_LARGE})\b")
_WHOLE: Final = re.compile(rf"Seq Scan on (?:{_LARGE})\b")
_EXPLAINED: Final = (
    "session_preload_libraries = 'auto_explain'",
    "client_min_messages = log",
    "auto_explain.log_min_duration = 0",
    "auto_explain.log_analyze = on",
    "auto_explain.log_timing = off",
)
_NUMBERS: Final = list(NUMERIC_COLUMNS)
# The hours end `offset` hours ago. One in twenty is a fraud; the truth about all of them is known.
_FILL: Final = (
    f"""
    INSERT INTO transactions (transaction_id, event_time, ingestion_timestamp, source, contract,
                              {", ".join(_NUMBERS)})
    SELECT %(prefix)s || n, at - interval '16 min', at, 'stream', 'creditcard/1',
           {", ".join("round((random() * 3)::numeric, 2)" for _ in _NUMBERS)}
    FROM (SELECT n, now() - interval '1 hour' * (%(offset)s + random() * %(hours)s) AS at
          FROM generate_series(1, %(rows)s) AS n) made
    """,
    f"""
    INSERT INTO predictions (transaction_id, fraud_score, is_fraud_predicted, model_version, score, decision,
                             deciding, feature_vector, engine, latency_ms, prediction_time)
    SELECT transaction_id, score, score > 0.5, '7', score,
           CASE WHEN score > 0.5 THEN 'review' ELSE 'approve' END, true,
           ARRAY[{", ".join("random()::real" for _ in range(30))}], 'xgboost-3.2.0', 5 * random(), at
    FROM (SELECT transaction_id, ingestion_timestamp AS at,
                 CASE WHEN substr(transaction_id, 2)::bigint %% 20 = 0 AND random() < 0.97
                      THEN 0.8 ELSE 0.1 END AS score
          FROM transactions WHERE transaction_id LIKE %(prefix)s || '%%') made
    """,
    """
    INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)
    SELECT gen_random_uuid(), transaction_id, 1, 'simulator', event_time, event_time FROM transactions
    WHERE transaction_id LIKE %(prefix)s || '%%' AND substr(transaction_id, 2)::bigint %% 20 = 0
    """,
)


if __name__ == "__main__":
    main()
