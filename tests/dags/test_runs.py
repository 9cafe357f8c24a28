"""The DAGs as the scheduler runs them, seen from outside: topics, rows, the API, task logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil
import pytest

from config import constants
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.offsets import lock_partition
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, Run
from tests.support.stored_rows import waits_for_a_lock
from tests.support.waiting import eventually

PRODUCER, STREAMING, RENEWAL = constants.DAGS_REAL_TIME
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)
A_RUN: Final = 50


@pytest.fixture(scope="module")
def scheduled(platform: AirflowPlatform) -> Iterator[dict[str, list[str]]]:
    """The states of the scheduled runs; afterwards the schedules are stopped.

    After the tests the DAGs are paused, or the watch would alert that they do not run.
    """

    def ended(dag_id: str) -> list[str]:
        runs = platform.airflow.runs(dag_id)
        return [run.state for run in runs if run.run_type == "scheduled" and run.ended is not None]

    often = constants.DAGS_SUB_MINUTE
    platform.start_schedules()
    assert eventually(lambda: all(map(ended, often)), PATIENCE_S), [
        platform.airflow.runs(one) for one in often
    ]
    platform.stop_schedules()
    yield {dag_id: ended(dag_id) for dag_id in often}
    for dag_id in often:
        platform.airflow.pause(dag_id, paused=True)


@pytest.fixture
def quiet(platform: AirflowPlatform, scheduled: dict[str, list[str]]) -> AirflowPlatform:
    """The platform with stopped schedules: only triggered runs start."""
    assert scheduled
    return platform


def produced_since(platform: AirflowPlatform, before: list[str]) -> Counter[str]:
    """The ids that arrived on the topic since then, with their counts."""
    return Counter(platform.sent()) - Counter(before)


def test_every_file_is_taken_up(platform: AirflowPlatform) -> None:
    assert platform.airflow.import_errors() == {}
    assert all(map(platform.airflow.known, constants.DAGS_REAL_TIME))


def test_unpaused_they_run_by_their_schedule(scheduled: dict[str, list[str]]) -> None:
    assert {dag_id: set(states) for dag_id, states in scheduled.items()} == {
        PRODUCER: {"success"},
        STREAMING: {"success"},
    }


def test_a_producer_run_sends_fifty_transactions(quiet: AirflowPlatform) -> None:
    before = quiet.sent()
    run = quiet.run(PRODUCER)
    produced = produced_since(quiet, before)
    assert (len(produced), set(produced.values())) == (A_RUN, {1})
    assert not set(produced) & set(before)
    assert f"{A_RUN} transactions (" in run.log("log_producer_completion")


def test_a_streaming_run_stores_and_decides_what_was_sent(quiet: AirflowPlatform) -> None:
    run = quiet.run(STREAMING)
    sent = set(quiet.sent())
    assert len(sent) >= A_RUN
    assert {row[0] for row in quiet.rows("SELECT transaction_id FROM transactions")} == sent
    decided = quiet.rows("SELECT transaction_id, model_version FROM predictions WHERE deciding")
    assert {row[0] for row in decided} == sent
    assert {row[1] for row in decided} == {"7"}
    assert "lag 0" in run.log("log_streaming_completion")


def test_a_renewed_token_is_another_and_the_api_takes_it(quiet: AirflowPlatform) -> None:
    before = quiet.token()  # fetched by the first scoring run
    run = quiet.run(RENEWAL)
    renewed = quiet.token()
    assert renewed != before
    answer = quiet.api.get("/models", headers={"Authorization": f"Bearer {renewed}"})
    assert answer.status_code == 200
    assert "is good until" in run.log("log_token_renewal")


def test_a_producer_task_that_runs_again_makes_the_same_transactions(quiet: AirflowPlatform) -> None:
    before = quiet.sent()
    run = quiet.run(PRODUCER)
    first = set(produced_since(quiet, before))
    run.clear("generate_transactions")
    run.succeeded()
    assert produced_since(quiet, before) == Counter(dict.fromkeys(first, 2))
    quiet.run(STREAMING)
    stored = "SELECT transaction_id FROM transactions WHERE transaction_id = ANY(%s)"
    assert sorted(row[0] for row in quiet.rows(stored, list(first))) == sorted(first)


def test_an_api_that_is_away_is_named_and_then_the_run_goes_on(quiet: AirflowPlatform) -> None:
    quiet.api.stop()
    try:
        run, task_log = failed_try(quiet, STREAMING, "validate_streaming_config")
    finally:
        quiet.api.start(seconds=PATIENCE_S)
    assert f"The scoring API at {quiet.api.url} cannot be reached" in task_log
    run.clear("validate_streaming_config")
    run.succeeded()


def test_a_broker_that_is_away_is_named_and_then_the_run_goes_on(quiet: AirflowPlatform) -> None:
    before = quiet.sent()
    quiet.broker.kill()
    try:
        run, task_log = failed_try(quiet, PRODUCER, "validate_producer_config")
    finally:
        quiet.broker.start()
    assert "is not ready: broker unreachable" in task_log
    run.clear("validate_producer_config")
    run.succeeded()
    assert len(produced_since(quiet, before)) == A_RUN


def failed_try(platform: AirflowPlatform, dag_id: str, task_id: str) -> tuple[Run, str]:
    """A run in which that task has failed once and is not retried, and the task's log."""
    run = platform.trigger(dag_id)
    run.wait_for(task_id, "up_for_retry", "failed")
    run.fail(task_id)
    # Wait until the scheduler has also processed the downstream tasks, or it would do so after the clearing.
    run.failed()
    return run, run.log(task_id)


def test_while_another_consumer_is_at_work_there_is_nothing_to_do(quiet: AirflowPlatform) -> None:
    with closing(connect(quiet.database.url("streaming"), "another consumer")) as held:
        assert all(lock_partition(held, quiet.kafka.topic, partition) for partition in (0, 1))
        run = quiet.run(STREAMING)
    assert run.tasks == {
        "validate_streaming_config": "success",
        "run_streaming_prediction": "skipped",
        "log_streaming_completion": "success",
    }
    assert "Another consumer is at work" in run.log("run_streaming_prediction")
    assert "Another consumer is at work" in run.log("log_streaming_completion")


@contextmanager
def job_at_work(platform: AirflowPlatform) -> Iterator[tuple[Run, psutil.Process]]:
    """A run whose job waits for the database until the end of the block."""
    with closing(connect(platform.database.url("owner"), "test")) as held, held.cursor() as cursor:
        cursor.execute("LOCK TABLE simulated_labels IN ACCESS EXCLUSIVE MODE")
        run = platform.trigger(PRODUCER)
        admin = platform.database.url("admin")
        assert eventually(lambda: waits_for_a_lock(admin, "fraud-producer"), PATIENCE_S), run.tasks
        (job,) = processes(run)
        yield run, job


def processes(run: Run) -> list[psutil.Process]:
    """The running jobs of a run, recognised by the run's id in their arguments."""
    matches = []
    for process in psutil.process_iter(["cmdline", "status"]):
        arguments = process.info["cmdline"] or []
        if f"{run.dag_id}:{run.run_id}" in arguments and process.info["status"] != psutil.STATUS_ZOMBIE:
            matches.append(process)
    return matches


def test_a_job_ends_with_the_task_a_person_marks_as_failed(quiet: AirflowPlatform) -> None:
    with job_at_work(quiet) as (run, _):
        run.fail("generate_transactions")
        assert eventually(lambda: not processes(run), PATIENCE_S)
    run.failed()
    assert run.tasks["generate_transactions"] == "failed"


def test_a_job_ends_with_its_killed_task_and_the_retry_makes_its_transactions(quiet: AirflowPlatform) -> None:
    before = quiet.sent()
    with job_at_work(quiet) as (run, job):
        task = job.parent()
        assert task is not None
        task.kill()
        assert eventually(lambda: job not in processes(run), PATIENCE_S)
    run.succeeded()
    produced = produced_since(quiet, before)
    assert (len(produced), set(produced.values())) == (A_RUN, {1})


def test_runs_are_listed_as_in_airflow_2(quiet: AirflowPlatform) -> None:
    def succeeded() -> set[str]:
        return {run.run_id for run in quiet.airflow.runs(PRODUCER) if run.state == "success"}

    assert quiet.recent(PRODUCER, 1)
    before = succeeded()
    options = ("-d", PRODUCER, "--state", "success", "-o", "json")
    done = quiet.metadata.script("airflow_cli.py", "dags", "list-runs", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    listed = {run["run_id"] for run in json.loads(done.stdout[done.stdout.index("[{") :])}
    assert listed == before


def test_no_secret_is_in_any_log_not_even_masked(quiet: AirflowPlatform) -> None:
    """Checks all logs of the tests above, including at least one run of each DAG."""
    for dag_id in constants.DAGS_REAL_TIME:
        (run,) = quiet.recent(dag_id, 1)
        assert logs_of(quiet, run)
    quiet.token()
    logs = list(quiet.metadata.server.task_logs.rglob("*.log"))
    own = list(quiet.metadata.server.place.parent.glob("airflow-*.log"))
    assert own
    assert any("is good until" in path.read_text() for path in logs), (
        "the searched files contain no output of tasks"
    )
    for path in (*logs, *own):
        text = path.read_text(errors="replace")
        leaked = [name for name, secret in quiet.secrets.items() if secret in text]
        assert not leaked, f"{path} shows the secret of {leaked}"
        assert path in own or "***" not in text, path


def test_a_cleaning_takes_old_runs_with_their_logs_and_keeps_young_ones(quiet: AirflowPlatform) -> None:
    recent, old = quiet.recent(PRODUCER, 2)
    renewed, forgotten = quiet.recent(RENEWAL, 2)
    for run, age in ((old, 30), (renewed, 30), (forgotten, 24 * 8)):
        quiet.age(run, timedelta(hours=age))
    done = quiet.metadata.script("clean_metadata.py")
    assert done.returncode == 0, done.stderr
    remaining = {row[0] for row in quiet.metadata.rows("SELECT run_id FROM dag_run")}
    tasks = {row[0] for row in quiet.metadata.rows("SELECT run_id FROM task_instance")}
    for runs in (remaining, tasks):
        assert {recent.run_id, renewed.run_id} <= runs
        assert not {old.run_id, forgotten.run_id} & runs
    assert all(logs_of(quiet, run) for run in (recent, renewed))
    assert not any(logs_of(quiet, run) for run in (old, forgotten))


def logs_of(platform: AirflowPlatform, run: Run) -> list[Path]:
    return list(platform.task_logs(run).rglob("*.log"))
