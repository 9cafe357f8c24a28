"""Rules for every job, whether it runs as a process or in a container."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from fraud_airflow.jobs import JobFailed
from tests.stack.docker_project import DockerProject, docker_project, job_image
from tests.stack.runner_kinds import (
    DEAF,
    DONE,
    FOR_EVER,
    UP,
    Containers,
    Processes,
    RunnerKind,
    Task,
    no_jobs_left,
    run,
    runner,
)  # fmt: skip


@pytest.fixture(scope="module")
def docker_project_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProject]:
    with job_image() as image, docker_project(tmp_path_factory.mktemp("proxy"), image) as docker:
        yield docker


@pytest.fixture(params=["process", "docker"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunnerKind]:
    runner: RunnerKind
    runner = (
        Processes(tmp_path)
        if request.param == "process"
        else Containers(request.getfixturevalue("docker_project_of_module"))
    )
    yield runner
    assert no_jobs_left(runner)


def test_a_job_gets_its_arguments_and_environment_and_nothing_of_the_worker(
    project: RunnerKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://worker:everything@db/x")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "nine")
    source = "json.dump({'argv': sys.argv[1:], 'env': dict(os.environ)}, open(result, 'w'))"
    own, job_environment = {"DATABASE_URL": "own"}, {"SEEN": "a $b 'c' \\ =\n d é"}
    outcome = run(
        project,
        source,
        command=("python", "-m", "fraud_job", "generate", "--count", "5"),
        environment=job_environment,
        private={"DATABASE_URL": "own"},
    )
    assert outcome.exit_code == 0
    assert outcome.result is not None
    assert outcome.result["argv"][:3] == ["generate", "--count", "5"]
    env = outcome.result["env"]
    assert env.items() >= {**job_environment, **own}.items()
    assert not [name for name in env if name.startswith("AIRFLOW")]


def test_no_secret_is_among_the_arguments_of_a_process(project: RunnerKind) -> None:
    lines: list[str] = []
    source = "print(*(open(f'/proc/{one}/cmdline').read() for one in (os.getpid(), os.getppid())))\n"
    run(project, source, lines.append, private={"DATABASE_URL": "geheim"})
    assert "fraud_job" in lines[0]
    assert "geheim" not in lines[0]


def test_stdout_stderr_long_lines_and_broken_characters_all_arrive(project: RunnerKind) -> None:
    lines: list[str] = []
    source = "os.write(2, b'err\\n'); os.write(1, b'\\xff\\n' + b'x' * 3_000_000 + b'\\n\\n\\nlast')\n" + DONE
    assert run(project, source, lines.append).result == {"done": True}
    lines.remove("err")  # stdout and stderr of a container are separate streams
    broken, long, *rest = lines
    assert (broken, rest) == ("\ufffd", ["", "", "last"])
    assert long == "x" * 65536 + f" … ({3_000_000 - 65536} bytes more)"


def test_many_lines_arrive_all_and_in_order(project: RunnerKind) -> None:
    lines: list[str] = []
    assert run(project, "for i in range(100_000): print(i)\nsys.exit(5)", lines.append).exit_code == 5
    assert lines == [str(number) for number in range(100_000)]


def test_a_job_that_closes_its_output_is_waited_for(project: RunnerKind) -> None:
    assert run(project, "os.close(1); os.close(2); time.sleep(1)\n" + DONE).result == {"done": True}


@pytest.mark.parametrize("session", [False, True])
def test_a_grandchild_that_keeps_the_output_open_is_not_waited_for(
    project: RunnerKind, session: bool
) -> None:
    child = f"subprocess.Popen(['sleep', '20'], start_new_session={session})"
    lines: list[str] = []
    source = f"import subprocess; {child}\nprint('said')\n" + DONE
    assert run(project, source, lines.append).result == {"done": True}
    assert lines == ["said"]


@pytest.mark.parametrize("code", [1, 2, 3, 99])
def test_the_exit_code_comes_back_with_the_result(project: RunnerKind, code: int) -> None:
    outcome = run(project, DONE + f"sys.exit({code})")
    assert (outcome.exit_code, outcome.result) == (code, {"done": True})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_job_that_a_signal_ended_says_so(project: RunnerKind, number: int) -> None:
    assert run(project, f"os.kill(os.getpid(), {int(number)})").exit_code == -number


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "it wrote no result"),
        ("open(result, 'w').write('{')", "its result is not JSON"),
        ("open(result, 'w').write('[1]')", "its result is not a JSON object"),
        ("os.mkdir(result)", "its result cannot be read (Is a directory)"),
        ("open(result, 'w').write(json.dumps('x' * 65536))", "its result is larger than 65536 bytes"),
        ("open(result, 'w').truncate(10**9)", "its result is larger than 65536 bytes"),
    ],
)
def test_a_wrong_result_is_described(project: RunnerKind, source: str, problem: str) -> None:
    outcome = run(project, source)
    assert (outcome.exit_code, outcome.result, outcome.problem) == (0, None, problem)


def killing(project: RunnerKind, source: str) -> list[str]:
    """The lines of a job whose task is ended at the first line."""
    one = runner(project)
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        one.kill()

    with pytest.raises(JobFailed, match=r"^The job was ended, because its task was"):
        one.run(project.spec(source), line)
    return lines


def test_a_killed_job_is_asked_first(project: RunnerKind) -> None:
    stop = "def stop(*_):\n    os.write(1, b'finishing\\n'); os._exit(3)\n"
    source = f"import signal\n{stop}signal.signal(signal.SIGTERM, stop)\n"
    assert killing(project, source + UP + FOR_EVER) == ["up", "finishing"]


def test_a_job_that_does_not_listen_is_ended_after_the_patience(project: RunnerKind) -> None:
    assert killing(project, DEAF + UP + FOR_EVER) == ["up"]


def test_a_job_killed_in_a_signal_handler_ends(project: RunnerKind) -> None:
    one, up = runner(project), threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: one.kill())

    def ring() -> None:
        up.wait(60)
        os.kill(os.getpid(), signal.SIGUSR1)  # while the runner waits for the next line

    sender = threading.Thread(target=ring)
    sender.start()
    try:
        with pytest.raises(JobFailed, match=r"^The job was ended"):
            one.run(project.spec(UP + FOR_EVER), lambda _: up.set())
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_job_killed_before_its_start_is_not_started(project: RunnerKind) -> None:
    one = runner(project)
    lines: list[str] = []
    one.kill()
    with pytest.raises(JobFailed, match=r"^The task was ended before its job was started"):
        one.run(project.spec(UP), lines.append)
    assert lines == []


class TimeIsUp(BaseException):
    pass


def test_a_job_whose_time_is_up_is_asked_first_and_heard(project: RunnerKind) -> None:
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        if text == "up":
            raise TimeIsUp

    source = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'asked\\n'), sys.exit(1)))\n"
    )
    with pytest.raises(TimeIsUp):
        run(project, source + UP + FOR_EVER, line)
    assert lines == ["up", "asked"]
    assert not project.running()


def test_a_job_ends_when_a_timer_interrupts_its_task(project: RunnerKind) -> None:
    def expire(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGUSR1, expire)
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        if text == "up":
            timer.start()

    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGUSR1])
    source = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'asked\\n'), sys.exit(1)))\n"
    )
    try:
        with pytest.raises(TimeIsUp):
            run(project, source + UP + FOR_EVER, line)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert lines == ["up", "asked"]
    assert not project.running()


def test_a_job_ends_although_its_log_cannot_be_written(project: RunnerKind) -> None:
    def line(text: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(project, DEAF + UP + FOR_EVER, line)
    assert not project.running()


@pytest.mark.parametrize("source", ["", DEAF])
def test_a_job_dies_with_a_task_that_is_killed(project: RunnerKind, source: str) -> None:
    with closing(Task(project, source + UP + FOR_EVER)) as task:
        assert task.line() == "up"
        assert project.running()
        task.kill()
        assert no_jobs_left(project)


def test_a_job_dies_with_the_supervisor_of_its_task(project: RunnerKind) -> None:
    with closing(Task(project, UP + FOR_EVER, supervised=True)) as task:
        assert task.line() == "up"
        task.kill()
        assert task.line() == "failed: The job was ended, because its task was."
        assert no_jobs_left(project)


@pytest.fixture
def lock() -> str:
    return f"test-{secrets.token_hex(6)}"


def test_a_lock_lives_as_long_as_the_job_and_names_its_holder(project: RunnerKind, lock: str) -> None:
    with closing(Task(project, UP + FOR_EVER, single=lock)) as task:
        assert task.line() == "up"
        with pytest.raises(JobFailed) as failed:
            runner(project, 0.3).run(project.spec(DONE, lock, run="another"), print)
        assert f"The lock {lock} is held by the job of the_dag the_task the_run" in str(failed.value)
        assert "since 20" in str(failed.value)
        assert run(project, DONE, single=f"{lock}-2", run="another").exit_code == 0, "other locks are free"
        task.kill()
        assert run(project, DONE, single=lock, run="another").exit_code == 0


def test_a_task_that_waits_for_a_lock_can_be_ended(project: RunnerKind, lock: str) -> None:
    with closing(Task(project, UP + FOR_EVER, single=lock)) as task:
        assert task.line() == "up"
        one = runner(project)
        timer = threading.Timer(0.5, one.kill)
        timer.start()
        with pytest.raises(JobFailed, match=rf"^The task was ended while it waited for the lock {lock}"):
            one.run(project.spec(DONE, lock, run="another"), print)
        timer.join()


def test_jobs_of_one_lock_never_overlap(project: RunnerKind, lock: str) -> None:
    source = (
        "began = time.time(); time.sleep(0.5)\njson.dump({'span': [began, time.time()]}, open(result, 'w'))"
    )
    spans: list[tuple[float, float]] = []

    def one(number: int) -> None:
        outcome = run(project, source, single=lock, run=f"run-{number}")
        assert outcome.result is not None
        spans.append(outcome.result["span"])

    threads = [threading.Thread(target=one, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans) == 4
    spans.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
