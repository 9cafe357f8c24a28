"""How Airflow drives the running demo, which `./fraud demo` starts.

    ./fraud bench dags watch --minutes 10     periods, runs, throughput, cost of a task, memory
    ./fraud bench dags backlog --count 5000   how long the scoring DAG takes to drain a backlog
    ./fraud bench dags growth --runs 5000     table sizes and scheduler loop, cleaned and not
    ./fraud bench dags durations              every DAG once, beside the specified duration

Each prints one JSON document, `durations` a table before it. `growth` copies finished runs up to the
requested number, all older than the retention time, and cleans once; it restarts the scheduler so that it
reports its loop time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import DAGS_SUB_MINUTE
from fraud_embedded import operations
from fraud_embedded.installation import default_layout
from fraud_embedded.jobs import run_job
from fraud_embedded.platform import Platform
from fraud_embedded.processes.process import base_environment
from fraud_embedded.processes.supervision import Supervisor
from fraud_embedded.servers import airflow
from fraud_embedded.servers.airflow_api import AirflowApi, DagRun
from tests.benchmarks import machine
from tests.benchmarks.meter import Meter

ROOT: Final = Path(__file__).resolve().parents[2]

PRODUCER, STREAMING = DAGS_SUB_MINUTE
_RUNS: Final = """
    SELECT dag_id, state, extract(epoch FROM start_date), extract(epoch FROM end_date - start_date)
    FROM dag_run WHERE start_date >= %s AND start_date < %s ORDER BY dag_id, start_date
"""
_TASKS: Final = """
    SELECT task_id, count(*), percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
               ORDER BY extract(epoch FROM end_date - start_date)::float8),
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY extract(epoch FROM start_date - scheduled_dttm)::float8)
    FROM task_instance
    WHERE start_date >= %s AND start_date < %s AND dag_id = ANY(%s) AND end_date IS NOT NULL GROUP BY task_id
"""
_THROUGH: Final = """
    SELECT (SELECT count(*) FROM transactions WHERE ingestion_timestamp BETWEEN %(since)s AND %(until)s),
           (SELECT count(*) FROM predictions
            WHERE deciding AND prediction_time BETWEEN %(since)s AND %(until)s)
"""
# As the specification expects them.
SPECIFIED: Final = {
    PRODUCER: "~4 s",
    STREAMING: "2–3 s",
    "00_token_renewal": "~2 s",
    "00_batch_prediction": "by size",
    "01_training_pipeline": "15–30 min",
    "02_drift_monitoring": "~30 s",
    "03_feedback_collection": "~5 min",
    "04_data_quality": "~1 min",
    "06_model_performance_tracking": "~2 min",
}
_LONGEST_RUN_S: Final = 1800.0
_TABLES: Final = (
    "dag_run",
    "task_instance",
    "task_instance_history",
    "xcom",
    "rendered_task_instance_fields",
    "log",
    "job",
)


def main() -> int:
    options = _parser().parse_args()
    platform = operations.existing(default_layout(), dict(os.environ))
    supervisor = Supervisor(platform.layout)
    if not supervisor.running():
        sys.exit("The platform is not running: ./fraud demo starts it.")
    figures: dict[str, Any] = options.measure(platform, supervisor, options)
    print(json.dumps({"measured": datetime.now(UTC).isoformat(timespec="seconds"), **figures}, indent=2))
    return 0


def watch(platform: Platform, supervisor: Supervisor, options: argparse.Namespace) -> dict[str, Any]:
    """Observe the running DAGs."""
    trees = {state.name: state.pid for state in supervisor.states() if state.pid}
    since = datetime.now(UTC)
    with Meter(trees, sample_seconds=2.0) as meter:
        time.sleep(options.minutes * 60)
    until = datetime.now(UTC)
    seconds = (until - since).total_seconds()
    with closing(metadata(platform)) as connection:
        runs = _query(connection, _RUNS, (since, until))
        tasks = _query(connection, _TASKS, (since, until, list(DAGS_SUB_MINUTE)))
    number = sum(row[1] for row in tasks)
    used = {name: one.cpu for name, one in meter.usage.items()}
    with closing(psycopg2.connect(platform.database_url("readonly"))) as connection:
        stored, decided = _query(connection, _THROUGH, {"since": since, "until": until})[0]
    return {
        "seconds": round(seconds),
        "dags": {dag_id: _dag([row for row in runs if row[0] == dag_id]) for dag_id in DAGS_SUB_MINUTE},
        "stored_per_minute": round(stored * 60 / seconds, 1),
        "decided_per_minute": round(decided * 60 / seconds, 1),
        "tasks": {
            task: {
                "count": count,
                "median_s": round(took[0], 2),
                "p95_s": round(took[1], 2),
                "wait_median_s": round(waited, 2),
            }
            for task, count, took, waited in tasks
        },
        "cpu_seconds_a_task": {
            "scheduler, tasks and jobs": round(used[airflow.SCHEDULER] / number, 3),
            "web server": round(used[airflow.WEBSERVER] / number, 3),
        },
        "cpu_share_of_a_core": {name: round(cpu / seconds, 3) for name, cpu in sorted(used.items())},
        "peak_memory_mib": {name: round(one.peak_mb) for name, one in sorted(meter.usage.items())},
        "airflow_memory_mib": round(sum(meter.usage[name].peak_mb for name in airflow.NAMES)),
        "load_average": round(os.getloadavg()[1], 2),
    }


def durations(platform: Platform, supervisor: Supervisor, options: argparse.Namespace) -> dict[str, Any]:
    """Start each DAG once, one after the other, and time its run from its start to its end."""
    del supervisor, options
    api = AirflowApi(platform.airflow())
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    parameters: dict[str, dict[str, Any]] = {
        "00_batch_prediction": {"data_from": hour_ago},
        "01_training_pipeline": {"force": True},
    }
    found: dict[str, DagRun] = {}
    for dag_id in SPECIFIED:
        found[dag_id] = _ended(api, dag_id, api.trigger(dag_id, parameters.get(dag_id)))
    rows = [
        [f"`{dag_id}`", SPECIFIED[dag_id], f"{_seconds(run):.1f} s", run.state]
        for dag_id, run in found.items()
    ]
    print(f"{machine.table(['DAG', 'specified', 'measured', 'ended as'], rows)}\n")
    return {
        "seconds": {dag_id: round(_seconds(run), 1) for dag_id, run in found.items()},
        "states": {dag_id: run.state for dag_id, run in found.items()},
        "load_average": round(os.getloadavg()[1], 2),
    }


def _ended(api: AirflowApi, dag_id: str, run_id: str) -> DagRun:
    begun = time.monotonic()
    while time.monotonic() - begun < _LONGEST_RUN_S:
        [run] = [one for one in api.runs(dag_id) if one.run_id == run_id]
        if run.state in {"success", "failed"}:
            return run
        time.sleep(0.5)
    sys.exit(f"The run {run_id} of {dag_id} has not ended in {_LONGEST_RUN_S / 60:.0f} minutes.")


def _seconds(run: DagRun) -> float:
    assert run.started is not None
    assert run.ended is not None
    return (run.ended - run.started).total_seconds()


def _dag(runs: list[tuple[Any, ...]]) -> dict[str, Any]:
    starts = [float(row[2]) for row in runs]
    periods = [later - earlier for earlier, later in pairwise(starts)]
    took = [float(row[3]) for row in runs if row[3] is not None]
    return {
        "runs": len(runs),
        "not_successful": sum(row[1] not in ("success", "running") for row in runs),
        "period_median_s": round(median(periods), 2),
        "period_worst_s": round(max(periods), 2),
        "run_median_s": round(median(took), 2),
        "run_worst_s": round(max(took), 2),
    }


def backlog(platform: Platform, supervisor: Supervisor, options: argparse.Namespace) -> dict[str, Any]:
    """Publish a backlog at once and let the DAG drain it while nothing else arrives."""
    del supervisor
    api = AirflowApi(platform.airflow())
    with closing(psycopg2.connect(platform.database_url("readonly"))) as connection:
        connection.autocommit = True
        api.pause(PRODUCER, paused=True)
        api.pause(STREAMING, paused=True)
        try:
            time.sleep(12)  # let the current runs end
            before = _stored(connection)
            run_job(platform, "producer", ["fraud_producer", "generate", "--count", str(options.count)])
            published, since = time.monotonic(), datetime.now(UTC)
            api.pause(STREAMING, paused=False)
            while _stored(connection) < before + options.count:
                if time.monotonic() - published > 600:
                    sys.exit("The backlog was not drained in ten minutes.")
                time.sleep(0.2)
            drained = time.monotonic() - published
        finally:
            api.pause(STREAMING, paused=False)
            api.pause(PRODUCER, paused=False)
    with closing(metadata(platform)) as connection:
        runs = [row for row in _query(connection, _RUNS, (since, datetime.now(UTC))) if row[0] == STREAMING]
    return {"backlog": options.count, "drained_s": round(drained, 1), "runs": len(runs)}


def growth(platform: Platform, supervisor: Supervisor, options: argparse.Namespace) -> dict[str, Any]:
    """The effect of many runs on Airflow's tables and scheduler, and that of one cleaning."""
    server = platform.airflow()
    talkative = "airflow.jobs.scheduler_job_runner.SchedulerJobRunner=DEBUG"
    _restart(platform, supervisor, {"AIRFLOW__LOGGING__NAMESPACE_LEVELS": talkative})
    try:
        with closing(metadata(platform)) as connection:
            connection.autocommit = True
            figures = {"young": _state(connection, supervisor, options.seconds)}
            copy_runs(connection, options.runs)
            figures[f"with {options.runs} runs"] = _state(connection, supervisor, options.seconds)
            started = time.monotonic()
            done = subprocess.run(
                [str(server.python), server.script("clean_metadata.py")],
                env=base_environment() | server.metadata(),
                check=False,
                capture_output=True,
                text=True,
            )
            figures["cleaning"] = {
                "seconds": round(time.monotonic() - started, 1),
                "exit_code": done.returncode,
                "said": done.stdout.strip(),
            }
            figures["cleaned"] = _state(connection, supervisor, options.seconds)
    finally:
        _restart(platform, supervisor, {})
    return figures


def copy_runs(connection: Connection, target: int) -> None:
    """Copy finished runs of the sub-minute DAGs, with all dependent rows, up to the target number."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM dag_run WHERE dag_id = ANY(%s)", (list(DAGS_SUB_MINUTE),))
        present = cursor.fetchone()
        cursor.execute(
            "CREATE TEMP TABLE pattern AS SELECT id, dag_id, run_id FROM dag_run WHERE dag_id = ANY(%s) "
            "AND state = 'success' ORDER BY start_date DESC LIMIT 250",
            (list(DAGS_SUB_MINUTE),),
        )
        cursor.execute("SELECT count(*) FROM pattern")
        size = cursor.fetchone()
        assert present is not None
        assert size is not None
        if not size[0]:
            sys.exit("There is no successful run to copy: let the DAGs run first.")
        for number in range(1, (target - present[0]) // size[0] + 2):
            # 26 hours exceed the retention time; one more hour for each copy keeps their times distinct.
            shift = f"interval '{26 + number} hours'"
            for table in ("dag_run", "task_instance", "rendered_task_instance_fields", "xcom"):
                _copy(cursor, table, number, shift)
            cursor.execute(
                "INSERT INTO log (dttm, dag_id, task_id, event, run_id, owner, extra) "
                f"SELECT l.dttm - {shift}, l.dag_id, l.task_id, l.event, l.run_id || '-{number}', "
                "l.owner, l.extra FROM log l JOIN pattern p USING (dag_id, run_id)"
            )
        cursor.execute("ANALYZE")


def _copy(cursor: Any, table: str, number: int, shift: str) -> None:
    cursor.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s "
        "AND table_schema = 'public' AND is_generated = 'NEVER'",
        (table,),
    )
    target, source = [], []
    for name, kind in cursor.fetchall():
        if name == "id" and table == "dag_run":
            continue
        target.append(name)
        if name == "id":
            source.append("gen_random_uuid()")
        elif name == "run_id":
            source.append(f"t.run_id || '-{number}'")
        elif name == "dag_run_id":
            source.append(
                "(SELECT n.id FROM dag_run n "
                f"WHERE n.dag_id = t.dag_id AND n.run_id = t.run_id || '-{number}')"
            )
        elif kind == "timestamp with time zone":
            source.append(f't."{name}" - {shift}')
        else:
            source.append(f't."{name}"')
    columns = ", ".join(f'"{name}"' for name in target)
    cursor.execute(
        f"INSERT INTO {table} ({columns}) SELECT {', '.join(source)} "
        f"FROM {table} t JOIN pattern p ON p.dag_id = t.dag_id AND p.run_id = t.run_id"
    )


def _state(connection: Connection, supervisor: Supervisor, seconds: float) -> dict[str, Any]:
    log = supervisor.log(airflow.SCHEDULER)
    start = log.stat().st_size
    time.sleep(seconds)
    with log.open("rb") as file:
        file.seek(start if log.stat().st_size >= start else 0)
        loops = [float(one) for one in re.findall(rb"Ran scheduling loop in ([\d.]+) ms", file.read())]
    tables = {}
    for table in _TABLES:
        size = sql.SQL("SELECT count(*), pg_total_relation_size({}) FROM {}")
        with connection.cursor() as cursor:
            cursor.execute(size.format(sql.Literal(table), sql.Identifier(table)))
            row = cursor.fetchone()
        assert row is not None
        tables[table] = {"rows": row[0], "mib": round(row[1] / 2**20, 1)}
    looped = sorted(loops)
    return {
        "scheduler_loop_ms": {
            "loops": len(looped),
            "median": round(median(looped), 1) if looped else None,
            "p95": round(looped[int(len(looped) * 0.95)], 1) if looped else None,
        },
        "tables": tables,
    }


def _restart(platform: Platform, supervisor: Supervisor, more: dict[str, str]) -> None:
    spec = platform.specs()[airflow.SCHEDULER]
    supervisor.stop(spec.name)
    supervisor.write(replace(spec, env={**spec.env, **more}))
    supervisor.start(spec.name)
    supervisor.wait(spec, 120)


def metadata(platform: Platform) -> Connection:
    return psycopg2.connect(platform.airflow().database_url)


def _query(connection: Connection, statement: str, values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _stored(connection: Connection) -> int:
    return int(_query(connection, "SELECT count(*) FROM predictions WHERE deciding", None)[0][0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("watch", help="periods, runs, throughput, cost of a task, memory")
    one.add_argument("--minutes", type=float, default=10)
    one.set_defaults(measure=watch)
    two = verbs.add_parser("backlog", help="how long a backlog takes")
    two.add_argument("--count", type=int, default=5000)
    two.set_defaults(measure=backlog)
    three = verbs.add_parser("growth", help="table sizes and scheduler loop")
    three.add_argument("--runs", type=int, default=5000)
    three.add_argument("--seconds", type=float, default=60, help="how long to watch the scheduler each time")
    three.set_defaults(measure=growth)
    four = verbs.add_parser("durations", help="every DAG once, beside the specified duration")
    four.set_defaults(measure=durations)
    return parser


if __name__ == "__main__":
    sys.exit(main())
