"""A job's container ends with its task."""

from __future__ import annotations

from tests.stack.records import decided, job_at_work
from tests.stack.stack import Stack, wait_for

# Kills a worker's running tasks but not their supervisors.
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


def test_a_killed_task_leaves_no_container(stack: Stack) -> None:
    container, names = job_at_work(stack)
    assert stack.python("fraud-airflow-worker", KILL_TASKS).split(), "no task is running"
    wait_for(lambda: container not in stack.jobs(), 60, lambda: f"{container} has survived its task")
    # The next runs decide what the killed one did not, and nothing twice.
    wait_for(lambda: decided(stack, names) == len(names), 300, lambda: f"decided: {decided(stack, names)}")
