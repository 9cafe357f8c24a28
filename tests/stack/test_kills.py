"""A job's container lives as long as somebody waits for it."""

from __future__ import annotations

import uuid

from tests.stack.records import decided, publish
from tests.stack.stack import Stack, wait_for

DAG = "00_realtime_streaming"
# More than a run of the stream drains in its eight seconds, so that there is time to kill it.
RECORDS = 4000
# Kills whoever waits at the docker-proxy: the task, and nothing else of the worker.
KILL_WAITING = """
import psutil
killed = []
for process in psutil.process_iter():
    try:
        waits = any(one.raddr and one.raddr.port == 2375 for one in process.net_connections("tcp"))
    except psutil.Error:
        continue
    if waits:
        process.kill()
        killed.append(process.pid)
print(*killed)
"""


def job_at_work(stack: Stack) -> tuple[str, list[str]]:
    """A container that scores a backlog, and the names of the backlog's records."""
    names = [f"stack-{uuid.uuid4()}" for _ in range(RECORDS)]
    publish(stack, names)
    before = set(stack.jobs())
    run = stack.airflow().trigger(DAG)

    def streaming() -> list[str]:
        return [name for name in set(stack.jobs()) - before if "streaming" in name]

    wait_for(lambda: bool(streaming()), 120, lambda: f"no container for {run}: {stack.jobs()}")
    return streaming()[0], names


def all_decided(stack: Stack, names: list[str]) -> None:
    """Runs that follow decide what the killed one did not, and nothing twice."""
    wait_for(lambda: decided(stack, names) == RECORDS, 300, lambda: f"decided: {decided(stack, names)}")


def test_a_killed_task_leaves_no_container(stack: Stack) -> None:
    container, names = job_at_work(stack)
    assert stack.python("fraud-airflow-worker", KILL_WAITING).split(), "nobody waits for a container"
    wait_for(lambda: container not in stack.jobs(), 60, lambda: f"{container} has survived its task")
    all_decided(stack, names)


def test_a_killed_worker_leaves_no_container(stack: Stack) -> None:
    container, names = job_at_work(stack)
    stack.run("docker", "kill", "fraud-airflow-worker")
    try:
        wait_for(lambda: container not in stack.jobs(), 60, lambda: f"{container} has survived its worker")
    finally:
        stack.compose("start", "airflow-worker")
        stack.wait_healthy()
    all_decided(stack, names)
