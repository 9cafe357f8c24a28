"""Every DAG there is, by a run in the running stack."""

from __future__ import annotations

import pytest

from tests.stack.stack import ROOT, Stack, wait_for

DAGS = sorted(path.stem for path in (ROOT / "airflow" / "dags").glob("[0-9]*.py"))
ENDED = {"success", "failed"}
SECONDS = 240


def test_every_dag_file_is_read(stack: Stack) -> None:
    airflow = stack.airflow()
    assert airflow.import_errors() == {}
    assert [dag for dag in DAGS if not airflow.known(dag)] == []


@pytest.mark.parametrize("dag", DAGS)
def test_a_triggered_run_succeeds(stack: Stack, dag: str) -> None:
    airflow = stack.airflow()
    run = airflow.trigger(dag)

    def state() -> str:
        return next(one.state for one in airflow.runs(dag) if one.run_id == run)

    wait_for(lambda: state() in ENDED, SECONDS, lambda: f"{state()}: {airflow.tasks(dag, run)}")
    tasks = airflow.tasks(dag, run)
    logs = {task: airflow.log(dag, run, task) for task, ended in tasks.items() if ended == "failed"}
    assert state() == "success", logs
    assert set(tasks.values()) <= {"success", "skipped"}


def test_jobs_run_in_containers(stack: Stack) -> None:
    """The log of a run tells its container, and its lines came out of it."""
    airflow = stack.airflow()
    run = next(one for one in airflow.runs("00_transaction_producer") if one.state == "success")
    log = airflow.log("00_transaction_producer", run.run_id, "generate_transactions")
    assert "fraud-detection/jobs:local" in log or "fraud-job-" in log or "fraud-single-" in log


def test_no_container_of_a_job_is_left(stack: Stack) -> None:
    """With nothing running: a container is gone when its task has ended."""
    airflow = stack.airflow()
    for dag in DAGS:
        airflow.pause(dag, True)
    try:
        wait_for(
            lambda: not any(one.state not in ENDED for dag in DAGS for one in airflow.runs(dag)),
            SECONDS,
            lambda: "runs do not end",
        )
        wait_for(lambda: stack.jobs() == [], 30, lambda: f"left: {stack.jobs()}")
    finally:
        for dag in DAGS:
            airflow.pause(dag, False)


def test_what_is_produced_is_stored(stack: Stack) -> None:
    """The real-time DAGs by their schedules, with nobody triggering anything."""
    before = stack.stored()

    def grown() -> bool:
        now = stack.stored()
        return all(now[name] >= before[name] + 50 for name in before)

    wait_for(grown, SECONDS, lambda: f"{before} → {stack.stored()}")
