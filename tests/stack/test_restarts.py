"""While transactions arrive, a worker is killed and each service restarted in turn: each is decided once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from signal import SIGTERM

import pytest

from tests.stack.records import BACKLOG, decided, job_at_work, publish
from tests.stack.stack import ONE_SHOTS, Stack, running_stack, wait_for

RECORDS = 20
SECONDS = 240
# A graceful stop takes 15 s and saves nothing.
KILLED = {"objectstore"}


def services() -> list[str]:
    stack = running_stack()
    return [] if stack is None else [name for name in stack.services() if name not in ONE_SHOTS]


@pytest.fixture(scope="module")
def published(stack: Stack) -> Iterator[list[str]]:
    """The ids of all published transactions; the DAGs run by their schedules."""
    stack.pause(False)
    yield []


def test_a_killed_worker_leaves_no_container(stack: Stack, published: list[str]) -> None:
    """Airflow notices within a minute; the rest is decided while other services are restarted."""
    container, names = job_at_work(stack)
    published += names
    stack.run("docker", "kill", "fraud-airflow-worker")
    try:
        wait_for(lambda: container not in stack.jobs(), 60, lambda: f"{container} has survived its worker")
    finally:
        stack.compose("start", "airflow-worker")
    stack.wait_working("airflow-worker", seconds=SECONDS)


@pytest.mark.parametrize("service", services())
def test_a_restart(stack: Stack, published: list[str], service: str) -> None:
    names = [f"stack-{uuid.uuid4()}" for _ in range(RECORDS)]
    stack.compose("stop", service, seconds=SECONDS)
    [ended] = stack.inspect(f"fraud-{service}")
    stack.run("docker", "start", f"fraud-{service}")
    publish(stack, names)
    published += names
    stack.wait_working(service, seconds=SECONDS)
    by_itself = ended["State"]["ExitCode"] in {0, 128 + SIGTERM}
    assert by_itself or service in KILLED, "Docker had to kill it"


def test_nothing_was_lost_or_doubled(stack: Stack, published: list[str]) -> None:
    assert len(published) == BACKLOG + RECORDS * len(services())
    stack.wait_healthy()
    wait_for(
        lambda: decided(stack, published) == len(published),
        SECONDS,
        lambda: f"{decided(stack, published)} of {len(published)} are decided",
    )


def test_the_queue_of_dead_letters_holds_none_of_them(stack: Stack, published: list[str]) -> None:
    values = ",".join(f"'{name}'" for name in published)
    question = f"SELECT count(*) FROM dead_letters WHERE convert_from(record_key, 'UTF8') IN ({values})"
    assert stack.psql(question) == [["0"]]
