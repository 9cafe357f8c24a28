"""A job's container lives as long as somebody waits for it."""

from __future__ import annotations

import uuid

from tests.stack.records import decided, publish
from tests.stack.stack import Stack, wait_for

DAG = "00_realtime_streaming"
# More than a run of the stream drains in its eight seconds, so that there is time to kill it.
RECORDS = 4000
# Kills the tasks at work in a worker, and not what watches over them.
KILL_TASKS = """
import psutil
for process in psutil.process_iter():
    try:
        if "airflow worker -- " in " ".join(process.cmdline()):
            process.kill()
            print(process.pid)
    except psutil.Error:
        pass
"""


def job_at_work(stack: Stack) -> tuple[str, list[str]]:
    """The id of a container that scores a backlog, and the names of the backlog's records.

    Whichever run comes first takes the backlog: the one triggered here, or one by the schedule.
    """
    names = [f"stack-{uuid.uuid4()}" for _ in range(RECORDS)]
    before = set(stack.jobs())
    publish(stack, names)
    run = stack.airflow().trigger(DAG)

    def streaming() -> list[str]:
        return [job for job, name in stack.jobs().items() if job not in before and "streaming" in name]

    wait_for(lambda: bool(streaming()), 120, lambda: f"no container for {run}: {stack.jobs()}")
    return streaming()[0], names


def all_decided(stack: Stack, names: list[str]) -> None:
    """Runs that follow decide what the killed one did not, and nothing twice."""
    wait_for(lambda: decided(stack, names) == RECORDS, 300, lambda: f"decided: {decided(stack, names)}")


def test_a_killed_task_leaves_no_container(stack: Stack) -> None:
    container, names = job_at_work(stack)
    assert stack.python("fraud-airflow-worker", KILL_TASKS).split(), "no task is at work"
    wait_for(lambda: container not in stack.jobs(), 60, lambda: f"{container} has survived its task")
    all_decided(stack, names)


def test_a_killed_worker_leaves_no_container(stack: Stack) -> None:
    container, names = job_at_work(stack)
    stack.run("docker", "kill", "fraud-airflow-worker")
    try:
        wait_for(lambda: container not in stack.jobs(), 60, lambda: f"{container} has survived its worker")
    finally:
        stack.compose("start", "airflow-worker")
        stack.wait_working("airflow-worker")
    all_decided(stack, names)
