"""Rules only for jobs in containers: limits, orphans, and a proxy that is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from config.services import JobLimits
from fraud_airflow.jobs import JobFailed, JobRefused
from fraud_airflow.runners.docker_api import DockerClient
from fraud_airflow.runners.docker_runner import DockerRunner
from tests.stack.docker_project import DockerProject, docker_project, free_port, job_image
from tests.stack.runner_kinds import DONE, FOR_EVER, UP, Containers, Task, client, no_jobs_left, run, runner
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def docker_project_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProject]:
    with job_image() as image, docker_project(tmp_path_factory.mktemp("proxy"), image) as docker:
        yield docker


@pytest.fixture
def project(docker_project_of_module: DockerProject) -> Iterator[Containers]:
    containers = Containers(docker_project_of_module)
    yield containers
    assert no_jobs_left(containers)


def test_a_job_has_the_limits_of_its_service(project: Containers) -> None:
    configs: list[dict[str, Any]] = []

    def line(_: str) -> None:
        (one,) = project.docker_project.containers()
        configs.append(project.docker_project.daemon.inspect_container(one["Id"])["HostConfig"])

    run(project, UP + DONE, line, limits=JobLimits(memory_mib=70, cpus=0.5, pids=33))
    assert (configs[0]["Memory"], configs[0]["NanoCpus"], configs[0]["PidsLimit"]) == (
        70 * 2**20,
        500_000_000,
        33,
    )


def test_a_job_that_takes_too_much_memory_says_so(project: Containers) -> None:
    with pytest.raises(JobFailed, match=r"^The job ran out of its 64 MiB of memory\.$"):
        run(project, "x = bytearray(200 * 2**20)", limits=JobLimits(memory_mib=64))


def test_an_image_that_is_not_there_is_named(tmp_path: Any, project: Containers) -> None:
    with docker_project(tmp_path, "fraud-test-missing:1") as other:
        spec = replace(project.spec(DONE), image="fraud-test-missing:1")
        with pytest.raises(JobRefused, match=r"^The image fraud-test-missing:1 is not on this machine"):
            runner(Containers(other)).run(spec, print)


def test_what_the_proxy_refuses_is_not_tried_again(project: Containers) -> None:
    with pytest.raises(JobRefused, match=r"^The Docker proxy refuses the job: Image: 'postgres:17' is"):
        runner(project).run(project.spec(DONE, image="postgres:17"), print)


def test_a_module_that_is_not_there_fails_as_it_does_in_a_process(project: Containers) -> None:
    lines: list[str] = []
    outcome = runner(project).run(project.spec(DONE, command=("python", "-m", "fraud_nothing")), lines.append)
    assert outcome.exit_code == 1
    assert lines[-1].endswith("No module named fraud_nothing")


def test_a_proxy_that_does_not_answer_is_told_of(project: Containers) -> None:
    nobody = DockerRunner(DockerClient(client(free_port()), patience_s=0.5))
    with pytest.raises(JobFailed, match=r"^The Docker proxy does not answer .*: does"):
        nobody.run(project.spec(DONE), print)


@pytest.mark.parametrize("tried", ["1", "2"])
def test_what_an_earlier_try_of_the_task_left_is_ended_before_the_next(
    project: Containers, tried: str
) -> None:
    with (
        closing(Task(project, UP + FOR_EVER)) as earlier,
        closing(Task(project, UP + FOR_EVER, run="b")) as other,
    ):
        assert earlier.line() == other.line() == "up"
        spec = project.spec(DONE)
        spec = replace(spec, labels={**spec.labels, "fraud.try_number": tried})
        assert runner(project).run(spec, print).result == {"done": True}
        assert earlier.line().startswith(("ended: -15", "failed: The job's container is gone"))
        assert len(project.docker_project.containers()) == 1, "the container of another run must be kept"
        other.kill()


def test_jobs_without_labels_end_nobody(project: Containers) -> None:
    with closing(Task(project, UP + FOR_EVER)) as other:
        assert other.line() == "up"
        assert runner(project).run(project.spec(DONE, labels={}), print).exit_code == 0
        assert len(project.docker_project.containers()) == 1


def test_long_lines_of_two_streams_do_not_mix(project: Containers) -> None:
    source = """
import threading
def write(stream, letter):
    for _ in range(50): os.write(stream, letter * 40_000 + b'\\n')
threads = [threading.Thread(target=write, args=one) for one in ((1, b'o'), (2, b'e'))]
[one.start() for one in threads]; [one.join() for one in threads]
"""
    lines: list[str] = []
    assert run(project, source, lines.append).exit_code == 0
    assert sorted(lines) == ["e" * 40_000] * 50 + ["o" * 40_000] * 50


# The job writes lines continuously, so that connections break within and between lines.
TALKS = """
import threading
for number in range(1500):
    (sys.stdout if number % 3 else sys.stderr).write(f'{number}\\n'); sys.stdout.flush()
    if number % 10 == 0: time.sleep(0.02)
"""


@pytest.mark.parametrize("kill", [False, True])
def test_a_job_outlives_restarts_of_the_proxy_and_no_line_is_lost_or_doubled(
    project: Containers, kill: bool
) -> None:
    lines: list[str] = []
    restarts = iter((200, 900))
    due = next(restarts)

    def line(text: str) -> None:
        nonlocal due
        lines.append(text)
        if len(lines) == due:
            due = next(restarts, 0)
            project.docker_project.proxy.end(kill=kill)
            project.docker_project.proxy.start()

    assert run(project, TALKS + DONE, line).result == {"done": True}
    out = [number for number in map(int, lines) if number % 3]
    assert sorted(map(int, lines)) == list(range(1500))
    assert out == sorted(out), "each stream must keep its order"


def test_a_job_that_ends_while_the_proxy_is_away_has_its_result(project: Containers) -> None:
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        if text == "up":
            project.docker_project.proxy.end(kill=True)  # so that no response gets through any more
            threading.Thread(target=come_back).start()

    def come_back() -> None:
        assert eventually(lambda: project.docker_project.containers()[0]["State"] == "exited", 60)
        project.docker_project.proxy.start()

    outcome = run(project, UP + "time.sleep(1); print('last')\n" + DONE + "sys.exit(3)", line)
    assert (outcome.exit_code, outcome.result, outcome.problem) == (3, {"done": True}, "")
    assert lines == ["up", "last"]


def test_a_proxy_that_stays_away_fails_the_job_and_its_return_ends_it(project: Containers) -> None:
    impatient = DockerRunner(DockerClient(client(project.docker_project.proxy.port), patience_s=1))
    with pytest.raises(JobFailed, match=r"does not answer"):
        impatient.run(project.spec(UP + FOR_EVER), lambda _: project.docker_project.proxy.end())
    assert project.running()
    project.docker_project.proxy.start()
    assert no_jobs_left(project)


def test_a_container_that_somebody_removes_fails_its_job(project: Containers) -> None:
    def line(_: str) -> None:
        (one,) = project.docker_project.containers()
        project.docker_project.daemon.remove_container(one["Id"], force=True)

    with pytest.raises(JobFailed):
        outcome = run(project, UP + FOR_EVER, line)
        raise JobFailed(f"exit code {outcome.exit_code}") if outcome.exit_code else AssertionError(outcome)
