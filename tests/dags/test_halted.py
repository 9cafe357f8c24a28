"""Stalled DAGs: runs dated ahead are refused, stalled runs are ended in time, and people are alerted."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest

from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, Run
from tests.support.waiting import eventually

DAG: Final = "halting"
# These stand still from the first test of this file on, so that their tests wait at the same time.
DATED_AHEAD, NO_SLOT, QUEUED = STALLED = ("halting_dated_ahead", "halting_no_slot", "halting_queued")
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def alone(platform: AirflowPlatform) -> AirflowPlatform:
    """The platform without alerts; the DAGs of `halting` are loaded and paused."""
    for dag_id in (DAG, *STALLED):
        put_slots(platform, dag_id, 4)
        assert eventually(partial(platform.airflow.known, dag_id), PATIENCE_S), (
            platform.airflow.import_errors()
        )
    platform.metadata.rows("DELETE FROM variable WHERE description LIKE 'Alert: %' RETURNING 1")
    platform.webhook.texts.clear()
    return platform


@dataclass(frozen=True)
class Stalled:
    """What stands still: the run that is queued, and when the DAGs were unpaused."""

    platform: AirflowPlatform
    queued: Run
    since: datetime


@pytest.fixture(scope="module")
def stalled(alone: AirflowPlatform) -> Iterator[Stalled]:
    """Each DAG of STALLED is unpaused and makes no progress; no alert about it exists before."""
    for dag_id in STALLED:
        assert overdue(alone, dag_id) is None, "a paused DAG is not watched"
    run_dated_ahead(alone, DATED_AHEAD, "logical_date")
    put_slots(alone, NO_SLOT, 0)
    queued = run_dated_ahead(alone, QUEUED, "run_after")
    since = datetime.now(UTC)
    for dag_id in STALLED:
        alone.airflow.pause(dag_id, paused=False)
    yield Stalled(alone, queued, since)
    for dag_id in STALLED:
        end(alone, dag_id)


@pytest.fixture
def halting(alone: AirflowPlatform, stalled: Stalled) -> Iterator[AirflowPlatform]:
    """The DAG `halting` is paused and not watched before the test, and afterwards it is paused again."""
    assert stalled.platform is alone
    assert eventually(lambda: overdue(alone, DAG) is None, PATIENCE_S), "a paused DAG is not watched"
    yield alone
    end(alone, DAG)


def end(platform: AirflowPlatform, dag_id: str) -> None:
    """Pause the DAG and end its runs."""
    platform.airflow.pause(dag_id, paused=True)
    put_slots(platform, dag_id, 4)
    fail_active_runs = (
        "UPDATE dag_run SET state = 'failed' WHERE dag_id = %s AND state IN ('queued', 'running')"
    )
    platform.metadata.rows(f"{fail_active_runs} RETURNING 1", dag_id)


def put_slots(platform: AirflowPlatform, dag_id: str, slots: int) -> None:
    """Create or resize the DAG's pool; with zero slots no task starts."""
    platform.metadata.rows(
        "INSERT INTO slot_pool (pool, slots, description, include_deferred) VALUES (%s, %s, '', false)"
        " ON CONFLICT (pool) DO UPDATE SET slots = excluded.slots RETURNING 1",
        dag_id,
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


def failed(platform: AirflowPlatform, dag_id: str) -> list[str]:
    rows = platform.metadata.rows("SELECT run_id FROM dag_run WHERE dag_id = %s AND state = 'failed'", dag_id)
    return [str(row[0]) for row in rows]


def successes(platform: AirflowPlatform, dag_id: str, since: datetime) -> int:
    [(count,)] = platform.metadata.rows(
        "SELECT count(*) FROM dag_run WHERE dag_id = %s AND state = 'success' AND start_date > %s",
        dag_id,
        since,
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


def run_dated_ahead(platform: AirflowPlatform, dag_id: str, column: str) -> Run:
    """A run with a future date, as an Airflow without the policy or with a wrong clock would create."""
    run = platform.trigger(dag_id)
    platform.metadata.rows(
        f"UPDATE dag_run SET {column} = %s WHERE run_id = %s RETURNING 1", ahead(), run.run_id
    )
    return run


# The DAG without a slot first: were it left for longer, the watch would alert about it, too.
@pytest.mark.parametrize("dag_id", [NO_SLOT, DATED_AHEAD])
def test_a_run_that_stands_still_is_given_up_and_told(stalled: Stalled, dag_id: str) -> None:
    platform = stalled.platform
    message = platform.webhook.wait_for(f"[high] {dag_id}: a run was given up")
    assert "It had not ended after 0:00:10 (dagrun_timeout)" in message
    assert ("is in the future: until then none of its tasks starts" in message) is (dag_id == DATED_AHEAD)
    [run] = [
        Run(platform, dag_id, run_id)
        for run_id in failed(platform, dag_id)
        if f"Run {run_id}, task work." in message
    ]
    assert run.tasks == {"work": "skipped"}
    put_slots(platform, dag_id, 4)
    begun = datetime.now(UTC)
    assert eventually(lambda: successes(platform, dag_id, begun) >= 2, PATIENCE_S), (
        "the DAG did not continue by itself"
    )
    platform.webhook.wait_for(f"[resolved] {dag_id}: a run was given up")
    end(platform, dag_id)


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
    assert Run(halting, DAG, "old").succeeded().tasks == {"work": "success"}


def overdue(platform: AirflowPlatform, dag_id: str) -> float | None:
    """The DAG's metric, or None if the DAG is not watched."""
    address = f"http://127.0.0.1:{platform.metadata.server.watch_metrics_port}/metrics"
    with urllib.request.urlopen(address) as answer:
        lines = answer.read().decode().splitlines()
    samples = [line for line in lines if line.startswith(f'fraud_airflow_overdue_seconds{{dag="{dag_id}"}}')]
    return float(samples[0].split()[-1]) if samples else None


def test_a_dag_whose_runs_do_not_succeed_is_told_and_its_end_too(stalled: Stalled) -> None:
    """A queued run may wait for ever: Airflow limits only the time of a run that has started."""
    platform, run = stalled.platform, stalled.queued
    title = f"{QUEUED}: no run succeeds"
    message = platform.webhook.wait_for(title)
    assert platform.webhook.received[message] - stalled.since >= timedelta(seconds=20), (
        "ten periods have passed since it was unpaused"
    )
    assert message.startswith(f"*[high] {title}*\nIt should run every 2 s, and no run has ")
    assert f"The run {run.run_id} is queued and dated ahead" in message
    assert (overdue(platform, QUEUED) or 0) > 0
    # Airflow may start one run before it counts the waiting one.
    assert (successes(platform, QUEUED, stalled.since) <= 1, run.state) == (True, "queued")
    platform.airflow._call("PATCH", run.path, {"state": "failed"})
    # Airflow counts a DAG's runs again when one ends, or when it parses the file, which is rare here.
    platform.run(QUEUED)
    platform.webhook.wait_for(f"[resolved] {title}")
    assert (overdue(platform, QUEUED) or 0) < 0
    assert len(platform.webhook.about(title)) == 2, "told once, and its end once"
    platform.airflow.pause(QUEUED, paused=True)
    assert eventually(lambda: overdue(platform, QUEUED) is None, PATIENCE_S)
