"""Stalled DAGs: runs dated ahead are refused, stalled runs are ended in time, and people are alerted."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from config import constants
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, Run
from tests.support.waiting import eventually

DAG: Final = "halting"
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def alone(platform: AirflowPlatform) -> Iterator[AirflowPlatform]:
    """The platform with its own DAGs paused; the DAG `halting` is loaded and paused."""
    for dag_id in constants.DAGS_REAL_TIME:
        platform.airflow.pause(dag_id, paused=True)
    put_slots(platform, 4)
    assert eventually(lambda: platform.airflow.known(DAG), PATIENCE_S), platform.airflow.import_errors()
    yield platform
    for dag_id in constants.DAGS_REAL_TIME:
        platform.airflow.pause(dag_id, paused=False)


@pytest.fixture
def halting(alone: AirflowPlatform) -> Iterator[AirflowPlatform]:
    """No alert about the DAG exists before the test, and its state is reset afterwards."""
    assert eventually(lambda: overdue(alone) is None, PATIENCE_S), "a paused DAG is not watched"
    alone.metadata.rows("DELETE FROM variable WHERE description LIKE 'Alert: %' RETURNING 1")
    alone.webhook.texts.clear()
    yield alone
    alone.airflow.pause(DAG, paused=True)
    put_slots(alone, 4)
    fail_active_runs = (
        "UPDATE dag_run SET state = 'failed' WHERE dag_id = %s AND state IN ('queued', 'running')"
    )
    alone.metadata.rows(f"{fail_active_runs} RETURNING 1", DAG)


def put_slots(platform: AirflowPlatform, slots: int) -> None:
    """Create or resize the DAG's pool; with zero slots no task starts."""
    platform.metadata.rows(
        "INSERT INTO slot_pool (pool, slots, description, include_deferred) VALUES (%s, %s, '', false)"
        " ON CONFLICT (pool) DO UPDATE SET slots = excluded.slots RETURNING 1",
        DAG,
        slots,
    )


def posted(platform: AirflowPlatform, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status and body of the REST API's response, also if the request is refused."""
    try:
        return 200, str(platform.airflow._send("POST", path, body, token(platform)))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def token(platform: AirflowPlatform) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.airflow._log_in()}"}


def active(platform: AirflowPlatform) -> list[tuple[Any, ...]]:
    return platform.metadata.rows(
        "SELECT run_id, state FROM dag_run WHERE dag_id = %s AND state IN ('queued', 'running')", DAG
    )


def failed(platform: AirflowPlatform) -> list[str]:
    rows = platform.metadata.rows("SELECT run_id FROM dag_run WHERE dag_id = %s AND state = 'failed'", DAG)
    return [str(row[0]) for row in rows]


def successes(platform: AirflowPlatform, since: datetime) -> int:
    [(count,)] = platform.metadata.rows(
        "SELECT count(*) FROM dag_run WHERE dag_id = %s AND state = 'success' AND start_date > %s", DAG, since
    )
    return int(count)


def ahead(hours: int = 1) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize(
    ("dates", "field"),
    [
        ({"logical_date": ahead()}, "logical_date"),
        ({"logical_date": ahead(24 * 365)}, "logical_date"),
        ({"logical_date": None, "run_after": ahead()}, "run_after"),
        ({"logical_date": "2026-01-01T00:00:00Z", "run_after": ahead()}, "run_after"),
    ],
)
def test_a_run_dated_ahead_is_refused(
    halting: AirflowPlatform, dates: dict[str, str | None], field: str
) -> None:
    status, answer = posted(halting, f"/api/v2/dags/{DAG}/dagRuns", dates)
    assert (status, active(halting)) == (400, []), answer
    assert f"{field} is " in answer
    assert "is in the future" in answer
    assert "set a date that has passed" in answer


def test_the_command_line_refuses_it_too(halting: AirflowPlatform) -> None:
    done = halting.metadata.script("airflow_cli.py", "dags", "trigger", DAG, "--logical-date", ahead())
    assert (done.returncode, active(halting)) == (1, []), done.stdout
    assert done.stderr.splitlines()[-1].startswith("logical_date is ")
    assert "Traceback" not in done.stderr


def test_what_the_dag_does_not_read_is_refused(halting: AirflowPlatform) -> None:
    sentence = "The run was given forced, which this DAG does not read: it takes no parameters."
    status, answer = posted(
        halting, f"/api/v2/dags/{DAG}/dagRuns", {"logical_date": None, "conf": {"forced": True}}
    )
    assert (status, active(halting), sentence in answer) == (400, [], True), answer
    done = halting.metadata.script("airflow_cli.py", "dags", "trigger", DAG, "--conf", '{"forced": true}')
    assert (done.returncode, active(halting)) == (1, []), done.stdout
    assert done.stderr.splitlines()[-1] == sentence


def test_a_backfill_is_refused(halting: AirflowPlatform) -> None:
    span = {"from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"}
    status, answer = posted(halting, "/api/v2/backfills", {"dag_id": DAG, "max_active_runs": 1, **span})
    assert (400 <= status < 500, active(halting)) == (True, []), (status, answer)
    assert "backfill" in answer


def test_a_run_dated_long_ago_does_its_work(halting: AirflowPlatform) -> None:
    """A run before the DAG's start date would have no tasks, and succeed without work."""
    halting.airflow.pause(DAG, paused=False)
    status, answer = posted(
        halting, f"/api/v2/dags/{DAG}/dagRuns", {"logical_date": "1999-01-01T00:00:00Z", "dag_run_id": "old"}
    )
    assert status == 200, answer
    assert Run(halting.airflow, DAG, "old").succeeded().tasks == {"work": "success"}


def run_dated_ahead(platform: AirflowPlatform, column: str) -> Run:
    """A run with a future date, as an Airflow without the policy or with a wrong clock would create."""
    run = platform.trigger(DAG)
    platform.metadata.rows(
        f"UPDATE dag_run SET {column} = %s WHERE run_id = %s RETURNING 1", ahead(), run.run_id
    )
    return run


@pytest.mark.parametrize("cause", ["dated ahead", "no slot"])
def test_a_run_that_stands_still_is_given_up_and_told(halting: AirflowPlatform, cause: str) -> None:
    if cause == "no slot":
        put_slots(halting, 0)
    else:
        run_dated_ahead(halting, "logical_date")
    halting.airflow.pause(DAG, paused=False)
    message = halting.webhook.wait_for("[high] halting: a run was given up")
    assert "It had not ended after 0:00:10 (dagrun_timeout)" in message
    assert ("is in the future: until then none of its tasks starts" in message) is (cause == "dated ahead")
    [run] = [
        Run(halting.airflow, DAG, run_id)
        for run_id in failed(halting)
        if f"Run {run_id}, task work." in message
    ]
    assert run.tasks == {"work": "skipped"}
    put_slots(halting, 4)
    begun = datetime.now(UTC)
    assert eventually(lambda: successes(halting, begun) >= 2, PATIENCE_S), (
        "the DAG did not continue by itself"
    )
    halting.webhook.wait_for("[resolved] halting: a run was given up")


def overdue(platform: AirflowPlatform) -> float | None:
    """The DAG's metric, or None if the DAG is not watched."""
    address = f"http://127.0.0.1:{platform.metadata.server.watch_metrics_port}/metrics"
    with urllib.request.urlopen(address) as answer:
        lines = answer.read().decode().splitlines()
    samples = [line for line in lines if line.startswith(f'fraud_airflow_overdue_seconds{{dag="{DAG}"}}')]
    return float(samples[0].split()[-1]) if samples else None


def test_a_dag_whose_runs_do_not_succeed_is_told_and_its_end_too(halting: AirflowPlatform) -> None:
    """A queued run may wait for ever: Airflow limits only the time of a run that has started."""
    run = run_dated_ahead(halting, "run_after")
    begun = datetime.now(UTC)
    halting.airflow.pause(DAG, paused=False)
    message = halting.webhook.wait_for("halting: no run succeeds")
    assert datetime.now(UTC) - begun >= timedelta(seconds=20), "ten periods have passed since it was unpaused"
    assert message.startswith("*[high] halting: no run succeeds*\nIt should run every 2 s, and no run has ")
    assert f"The run {run.run_id} is queued and dated ahead" in message
    assert (overdue(halting) or 0) > 0
    # Airflow may start one run before it counts the waiting one.
    assert (successes(halting, begun) <= 1, run.state) == (True, "queued")
    halting.airflow._call("PATCH", run.path, {"state": "failed"})
    # Airflow counts a DAG's runs again when one ends, or when it parses the file, which is rare here.
    halting.run(DAG)
    halting.webhook.wait_for("[resolved] halting: no run succeeds")
    assert (overdue(halting) or 0) < 0
    assert len(halting.webhook.about("halting: no run succeeds")) == 2, "told once, and its end once"
    halting.airflow.pause(DAG, paused=True)
    assert eventually(lambda: overdue(halting) is None, PATIENCE_S)
