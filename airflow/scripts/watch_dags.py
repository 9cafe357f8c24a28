"""Tells when a DAG that should run does not: `python watch_dags.py`, beside the scheduler.

Every few seconds it reads, from Airflow's database, when the runs of each unpaused DAG last succeeded. It
imports none of Airflow's packages: what is to be told is told by `tell.py`, a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg2
from environment import DATABASE, Refused, complete
from heartbeat import beat
from overdue import Active, Dag, Message, Watch, incident_key
from schedules import schedule
from termination import termination_event
from watch_metrics import WatchMetrics

LOOK_S: Final = 5.0
_ALIVE_S: Final = 120.0  # a look may wait for the database, and for what is being told
_TELL_S: Final = 90.0
# A DAG whose file is gone is stale and nobody misses it; one whose file cannot be read is missed.
_DAGS: Final = """
SELECT dag.dag_id, known.timetable, dag.has_import_errors,
       EXISTS (SELECT FROM dag_tag WHERE dag_tag.dag_id = dag.dag_id AND dag_tag.name = 'critical'),
       (SELECT max(end_date) FROM dag_run WHERE dag_run.dag_id = dag.dag_id AND state = 'success'),
       active.run_id, active.state, active.dated
FROM dag
CROSS JOIN LATERAL (
    SELECT data -> 'dag' -> 'timetable' AS timetable FROM serialized_dag
    WHERE serialized_dag.dag_id = dag.dag_id ORDER BY created_at DESC LIMIT 1
) AS known
LEFT JOIN LATERAL (
    SELECT run_id, state, greatest(logical_date, run_after) AS dated FROM dag_run
    WHERE dag_run.dag_id = dag.dag_id AND state IN ('queued', 'running')
    ORDER BY state = 'running' DESC, id LIMIT 1
) AS active ON true
WHERE NOT dag.is_paused AND (NOT dag.is_stale OR dag.has_import_errors)
"""


def main() -> int:
    try:
        complete()
        metrics = WatchMetrics()
        metrics.serve(os.environ)
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    if not os.environ.get(DATABASE):
        print(f"{DATABASE} is not set: the watch reads Airflow's database.", file=sys.stderr)
        return 2
    ended = termination_event()
    print(f"watching, with a look every {LOOK_S:g} s", flush=True)
    run(metrics, ended)
    return 0


def run(metrics: WatchMetrics, ended: threading.Event) -> None:
    """Look until the end; what fails is said once, and tried again at the next look."""
    watch, failing = Watch(), ""
    beat(_ALIVE_S)
    while not ended.is_set():
        try:
            with closing(connect(os.environ[DATABASE])) as connection:
                while not ended.is_set():
                    look(watch, connection, metrics)
                    failing = ""
                    beat(_ALIVE_S)
                    ended.wait(LOOK_S)
        except psycopg2.Error as error:
            if failing != (failing := type(error).__name__):
                print(f"Airflow's database cannot be read ({failing}).", file=sys.stderr, flush=True)
            ended.wait(LOOK_S)


def look(watch: Watch, connection: Any, metrics: WatchMetrics) -> None:
    """One look, and what follows from it."""
    dags = list(read(connection))
    now = datetime.now(UTC)
    looked = watch.look(dags, now)
    metrics.show({name: late for name, (_, late) in looked.items()}, now)
    for message in list(watch.due(looked, now)):
        said = message.text.replace("\n", " ")
        print(
            f"{now.isoformat(timespec='seconds')} {message.kind}: {message.dag_id} {said}".strip(), flush=True
        )
        told = tell(message)
        watch.done(message, looked[message.dag_id][0], datetime.now(UTC), told=told)


def connect(address: str) -> Any:
    """A connection that sees what others have committed, and never waits for long.

    Raises:
        psycopg2.Error: the database is away or refuses.
    """
    connection = psycopg2.connect(
        address.replace("postgresql+psycopg2:", "postgresql:", 1),
        connect_timeout=5,
        application_name="airflow-watch",
        options="-c statement_timeout=10000 -c default_transaction_read_only=on",
    )
    connection.autocommit = True
    return connection


def read(connection: Any) -> Iterator[Dag]:
    """The unpaused DAGs whose runs are due by the clock."""
    with connection.cursor() as cursor:
        cursor.execute(_DAGS)
        rows = cursor.fetchall()
        # The notifier keeps a Variable for each open incident, and names it there.
        cursor.execute("SELECT description FROM variable WHERE description LIKE 'Alert: %'")
        open_incidents = {description for (description,) in cursor.fetchall()}
    for dag_id, timetable, unreadable, critical, succeeded, run_id, state, dated in rows:
        known = schedule(timetable or {})
        if known is not None:
            yield Dag(
                dag_id=dag_id,
                schedule=known,
                critical=critical,
                unreadable=bool(unreadable),
                succeeded=succeeded,
                active=Active(run_id, state, dated) if run_id else None,
                told=f"Alert: {incident_key(dag_id)}" in open_incidents,
            )


def tell(message: Message) -> bool:
    """Have it told; whether somebody was."""
    try:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("tell.py"))],
            input=json.dumps(asdict(message)),
            text=True,
            check=False,
            timeout=_TELL_S,
        )
    except subprocess.TimeoutExpired:
        print(f"tell.py took longer than {_TELL_S:g} s and was ended.", file=sys.stderr, flush=True)
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
