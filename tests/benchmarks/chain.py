"""From drift in the running demo to the model that answers it: when each part of the chain acts.

    ./fraud bench chain [--drift feature-shift=1.0] [--check-seconds 60] [--longest 1800]

`./fraud demo` must run, with its monitoring unpaused. Switches drift on in the running producer, starts
`02_drift_monitoring` again and again as its schedule would every hour, and waits for what follows: figures
beyond the bound, the trigger, the alert, the training that it starts, what the gate says of the new version,
and its alias. Switches the drift off at the end, whatever happened. Prints a table of the seconds since the
switch, and one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import DAG_DRIFT, DAG_TRAINING
from fraud_embedded import operations
from fraud_embedded.installation import default_layout
from fraud_embedded.processes.supervision import Supervisor
from fraud_embedded.servers.airflow_api import AirflowApi, DagRun
from tests.benchmarks import machine

FRAUD: Final = machine.RESULTS.parents[1] / "fraud"
# Each finds the moment of a step, and what it said; the moments are those of the rows.
_STEPS: Final = {
    "first drifted transaction decided": """
        SELECT min(prediction_time), 'by version ' || min(model_version) FROM predictions
        JOIN transactions USING (transaction_id) WHERE deciding AND event_time > %(since)s""",
    "drift found": """
        SELECT min(detected_at), string_agg(DISTINCT severity, ', ') FROM drift_metrics
        WHERE detected_at > %(since)s AND severity IN ('high', 'critical')""",
    "retraining triggered": """
        SELECT min(triggered_at), min(reason) FROM retraining_triggers
        WHERE triggered_at > %(since)s AND source = 'drift'""",
    "alert raised": """
        SELECT min(raised_at), min(title) FROM alerts
        WHERE raised_at > %(since)s AND severity IN ('high', 'critical') AND title ILIKE '%%drift%%'""",
    "version judged by the gate": """
        SELECT min(created_at), 'version ' || min(version) || CASE WHEN bool_and(gate_passed)
            THEN ' passed' ELSE ' failed' END FROM model_versions WHERE created_at > %(since)s""",
    "alias set": """
        SELECT min(recorded_at), min(alias || ' = ' || version) FROM model_alias_history
        WHERE recorded_at > %(since)s""",
}
_TRIGGER: Final = "retraining triggered"
_LAST: Final = "version judged by the gate"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drift", default="feature-shift=1.0", help="as ./fraud drift takes it")
    parser.add_argument("--check-seconds", type=float, default=60, help="between two runs of the check")
    parser.add_argument("--longest", type=float, default=1800, help="seconds after which it gives up")
    options = parser.parse_args()
    platform = operations.existing(default_layout(), dict(os.environ))
    if not Supervisor(platform.layout).running():
        sys.exit("The platform is not running: ./fraud demo starts it.")
    api = AirflowApi(platform.airflow())
    with closing(psycopg2.connect(platform.database_url("readonly"))) as connection, drift(options.drift):
        connection.autocommit = True
        since = datetime.now(UTC)
        found = follow(api, connection, since, options)
    print(described(found, since))
    seconds = {step: round((at - since).total_seconds(), 1) for step, (at, _) in found.items()}
    document = {"drift": options.drift, "seconds": seconds, "load_average": round(os.getloadavg()[1], 2)}
    print(f"\n{json.dumps(document)}")
    return 0 if _LAST in found else 1


@contextmanager
def drift(what: str) -> Iterator[None]:
    """The producer's drift, until the end."""
    subprocess.run([FRAUD, "drift", *what.split()], check=True, stdout=sys.stderr)
    try:
        yield
    finally:
        subprocess.run([FRAUD, "drift", "off"], check=True, stdout=sys.stderr)


def follow(
    api: AirflowApi, connection: Connection, since: datetime, options: argparse.Namespace
) -> dict[str, tuple[datetime, str]]:
    """Start the check until it fires, and note when each step happened; an absent one did not in time."""
    found: dict[str, tuple[datetime, str]] = {}
    deadline, next_check = time.monotonic() + options.longest, time.monotonic() + options.check_seconds
    training: DagRun | None = None
    while time.monotonic() < deadline and not (training and training.ended):
        look(connection, since, found)
        if _TRIGGER in found:
            training = next((run for run in api.runs(DAG_TRAINING, since) if _by_drift(run)), None)
        elif time.monotonic() > next_check:
            api.trigger(DAG_DRIFT)
            next_check = time.monotonic() + options.check_seconds
        time.sleep(1)
    look(connection, since, found)
    if training is not None and training.started is not None:
        found["training began"] = (training.started, training.run_id)
        if training.ended is not None:
            found["training ended"] = (training.ended, training.state)
    return found


def look(connection: Connection, since: datetime, found: dict[str, tuple[datetime, str]]) -> None:
    """Note the steps that have happened meanwhile."""
    for step, query in _STEPS.items():
        if step not in found and (row := _row(connection, query, since)):
            found[step] = row
            print(f"{step}: {row[1]}", file=sys.stderr, flush=True)


def _by_drift(run: DagRun) -> bool:
    return run.run_id.startswith("drift__")


def described(found: dict[str, tuple[datetime, str]], since: datetime) -> str:
    """The table, in the order in which the steps happened."""
    rows = [
        [step, f"{(at - since).total_seconds():.1f} s", said]
        for step, (at, said) in sorted(found.items(), key=lambda one: one[1][0])
    ]
    return str(machine.table(["step", "after the switch", "which"], rows))


def _row(connection: Connection, query: str, since: datetime) -> tuple[datetime, str] | None:
    with connection.cursor() as cursor:
        cursor.execute(query, {"since": since})
        row: Any = cursor.fetchone()
    return (row[0], str(row[1])[:110]) if row and row[0] is not None else None


if __name__ == "__main__":
    sys.exit(main())
