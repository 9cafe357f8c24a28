"""Jobs as processes: what they see, what comes back, and that none outlives its task."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraud_airflow.jobs import RESULT_LIMIT_BYTES, JobFailed, JobRefused, JobSpec, task_labels
from fraud_airflow.runners.launcher import process_start
from fraud_airflow.runners.process_runner import ProcessRunner, ProcessSettings, from_environment

WRITE = "import json, os, sys, time\nfrom pathlib import Path\nresult = Path(os.environ['RESULT_PATH'])\n"
DONE = "result.write_text('{\"done\": true}')\n"
READY = "Path('pid.partial').write_text(str(os.getpid())); Path('pid.partial').rename('pid')\n"
FOR_EVER = "while True: time.sleep(0.05)\n"
UNTIL_GO = "while not Path('go').exists(): time.sleep(0.01)\n"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
SAYS_SO = "import signal; signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'asked to end\\n'))\n"
# What a system without parent-death signals is like: the job stays when its task is killed.
STAYS = "import ctypes; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n"
AS_WE_DO = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # import what we can
TASK = """
import json, sys
from pathlib import Path
from fraud_airflow.jobs import JobSpec, task_labels
from fraud_airflow.runners.process_runner import ProcessSettings, ProcessRunner
place, single = Path(sys.argv[1]), sys.argv[2] or None
labels = task_labels("the_dag", "the_task", "the_run", -1, 1)
spec = JobSpec("n", labels, "i", ("python", "-m", "fraud_job"), {}, {}, single)
at = ProcessSettings(Path(sys.executable), place, place / "run", {})
try:
    ProcessRunner(at).run(spec, print)
except Exception as error:
    (place / "failed").write_text(str(error))
"""


class Place:
    """A directory with one job, and what a test does with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.at = ProcessSettings(Path(sys.executable), path, path / "run", {}, 0.5, 60)

    def job(self, source: str, single: str | None = None, **changed: Any) -> JobSpec:
        (self.path / "fraud_job.py").write_text(WRITE + source, encoding="utf-8")
        labels = task_labels("the_dag", "the_task", "the_run", -1, 1)
        return replace(JobSpec("n", labels, "i", ("python", "-m", "fraud_job"), {}, {}, single), **changed)

    def run(self, spec: JobSpec, line: Callable[[str], None] | None = None, **changed: Any) -> Any:
        return ProcessRunner(replace(self.at, **changed)).run(spec, line or self.lines.append)

    def task(self, source: str, single: str = "") -> subprocess.Popen[bytes]:
        """A task in a process of its own, whose job is running."""
        self.job(source)
        task = subprocess.Popen([sys.executable, "-c", TASK, str(self.path), single], env=AS_WE_DO)
        wait_for(lambda: (self.path / "pid").exists() or task.poll() is not None)
        assert task.poll() is None
        return task

    def pid(self) -> int:
        wait_for((self.path / "pid").exists)
        return int((self.path / "pid").read_text())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    for left in tmp_path.glob("*pid"):
        with suppress(ProcessLookupError):
            os.kill(int(left.read_text()), signal.SIGKILL)


def wait_for(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return process_start(pid) is None


def end(task: subprocess.Popen[bytes]) -> None:
    task.kill()
    task.wait()


def test_a_job_gets_its_arguments_and_environment_and_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://worker:everything@db/x")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "nine")
    spec = place.job(
        "result.write_text(json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ), 'cwd': os.getcwd()}))",
        command=("python", "-m", "fraud_job", "generate", "--count", "5"),
        environment={"SEEN": "a"},
        private={"DATABASE_URL": "own"},
    )
    outcome = place.run(spec, environment={"PATH": "/bin"})
    assert outcome.exit_code == 0
    assert outcome.result["argv"] == ["generate", "--count", "5"]
    assert outcome.result["cwd"] == str(place.path)
    env = outcome.result["env"]
    assert env.pop("RESULT_PATH").startswith(str(place.path / "run"))
    assert {k: v for k, v in env.items() if k != "LC_CTYPE"} == {
        "PATH": "/bin",
        "SEEN": "a",
        "DATABASE_URL": "own",
    }


def test_no_secret_is_among_the_arguments_of_a_process(place: Place) -> None:
    spec = place.job(
        "print(Path('/proc/self/cmdline').read_bytes(), Path(f'/proc/{os.getppid()}/cmdline').read_bytes())\n"
        + DONE,
        private={"DATABASE_URL": "geheim"},
        single="one",
    )
    place.run(spec)
    assert "fraud_job" in place.lines[0]
    assert "geheim" not in place.lines[0]
    assert "geheim" not in (place.path / "run" / "one.lock").read_text()


def test_lines_come_as_they_are_written(place: Place) -> None:
    def seen(line: str) -> None:
        if line == "first":
            (place.path / "go").touch()

    spec = place.job("print('first', flush=True)\n" + UNTIL_GO + DONE)
    assert place.run(spec, seen).exit_code == 0


def test_stdout_stderr_long_lines_and_broken_characters_all_arrive(place: Place) -> None:
    source = "os.write(2, b'err\\n'); os.write(1, b'\\xff\\n' + b'x' * 3_000_000 + b'\\nlast')\n" + DONE
    assert place.run(place.job(source)).exit_code == 0
    first, broken, long, last = place.lines
    assert (first, broken, last) == ("err", "\ufffd", "last")
    assert long.startswith("xxx")
    assert long.endswith(f"({3_000_000 - 65536} bytes more)")


def test_a_job_that_closes_its_output_is_waited_for(place: Place) -> None:
    source = "os.close(1); os.close(2)\nPath('closed').touch()\n" + UNTIL_GO + DONE
    spec = place.job(source)

    def go() -> None:
        wait_for((place.path / "closed").exists)
        (place.path / "go").touch()

    opener = threading.Thread(target=go)
    opener.start()
    outcome = place.run(spec)
    opener.join()
    assert outcome.result == {"done": True}


@pytest.mark.parametrize("session", [False, True])
def test_a_grandchild_that_keeps_the_output_open_is_not_waited_for(place: Place, session: bool) -> None:
    source = (
        "import subprocess\n"
        f"child = subprocess.Popen(['sleep', '1000'], start_new_session={session})\n"
        "Path('child.pid').write_text(str(child.pid)); print('said')\n" + DONE
    )
    assert place.run(place.job(source)).result == {"done": True}
    assert place.lines == ["said"]
    if not session:
        wait_for(lambda: gone(int((place.path / "child.pid").read_text())))


@pytest.mark.parametrize("code", [1, 2, 3, 99])
def test_the_exit_code_comes_back_with_the_result(place: Place, code: int) -> None:
    outcome = place.run(place.job(DONE + f"sys.exit({code})"))
    assert (outcome.exit_code, outcome.result) == (code, {"done": True})


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "it wrote no result"),
        ("result.write_text('{')", "its result is not JSON"),
        ("result.write_bytes(b'\\xff\\xff')", "its result is not JSON"),
        ("result.write_text('{\"a\": NaN}')", "its result is not JSON"),
        ("result.write_text('[' * 50_000)", "its result is not JSON"),
        ("result.write_text('[1]')", "its result is not a JSON object"),
        ("result.mkdir()", "its result cannot be read (Is a directory)"),
        (
            f"result.write_text(json.dumps('x' * {RESULT_LIMIT_BYTES}))",
            "its result is larger than 65536 bytes",
        ),
    ],
)
def test_a_wrong_result_is_described(place: Place, source: str, problem: str) -> None:
    outcome = place.run(place.job(source))
    assert (outcome.exit_code, outcome.result, outcome.problem) == (0, None, problem)


def test_nothing_is_left_of_a_result(place: Place) -> None:
    place.run(place.job("result.with_name('.result.json.partial').touch()\n" + DONE))
    assert list((place.path / "run").iterdir()) == []


def test_what_a_killed_task_left_goes_with_the_next_job(place: Place) -> None:
    task = place.task(READY + FOR_EVER)
    left = list((place.path / "run").glob("result-*"))
    place.run(place.job(DONE))
    assert list((place.path / "run").glob("result-*")) == left, "of a task that lives, nothing is removed"
    end(task)
    place.run(place.job(DONE))
    assert list((place.path / "run").glob("result-*")) == []


def test_a_killed_job_is_asked_first(place: Place) -> None:
    runner = ProcessRunner(replace(place.at, kill_patience_s=60))
    source = (
        "import signal\n"
        "def stop(*_):\n    os.write(1, b'finishing\\n'); os._exit(3)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\n" + FOR_EVER
    )
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        runner.kill()

    with pytest.raises(JobFailed, match=r"^The job was ended, because its task was"):
        runner.run(place.job(source), line)
    assert lines == ["ready", "finishing"]


def test_a_job_that_does_not_listen_is_ended_after_the_patience(place: Place) -> None:
    runner = ProcessRunner(place.at)
    source = DEAF + READY + "print('ready', flush=True)\n" + FOR_EVER
    with pytest.raises(JobFailed, match=r"^The job was ended"):
        runner.run(place.job(source), lambda _line: runner.kill())
    assert gone(place.pid())


def test_a_job_killed_in_a_signal_handler_ends(place: Place) -> None:
    runner = ProcessRunner(place.at)
    before = signal.signal(signal.SIGUSR1, lambda *_: runner.kill())
    try:
        source = READY + "import signal; os.kill(os.getppid(), signal.SIGUSR1)\n" + FOR_EVER
        with pytest.raises(JobFailed, match=r"^The job was ended"):
            runner.run(place.job(source), place.lines.append)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert gone(place.pid())


def test_a_job_killed_before_its_start_is_not_started(place: Place) -> None:
    runner = ProcessRunner(place.at)
    runner.kill()
    with pytest.raises(JobFailed, match=r"^The task was ended before its job was started"):
        runner.run(place.job(READY), place.lines.append)
    assert not (place.path / "pid").exists()


class TimeIsUp(BaseException):
    pass


@pytest.mark.parametrize("source", ["", DEAF, SAYS_SO])
def test_a_job_ends_with_whatever_ends_its_task(place: Place, source: str) -> None:
    def line(text: str) -> None:
        raise TimeIsUp

    with pytest.raises(TimeIsUp):
        place.run(place.job(source + READY + "print('ready', flush=True)\n" + FOR_EVER), line)
    assert gone(place.pid())


def test_a_job_whose_time_is_up_is_asked_first_and_heard(place: Place) -> None:
    def line(text: str) -> None:
        place.lines.append(text)
        if text == "ready":
            raise TimeIsUp

    with pytest.raises(TimeIsUp):
        place.run(place.job(SAYS_SO + "print('ready', flush=True)\n" + FOR_EVER), line)
    assert place.lines == ["ready", "asked to end"]


def test_a_job_dies_with_a_task_that_is_killed(place: Place) -> None:
    task = place.task(DEAF + READY + FOR_EVER)
    assert not gone(place.pid())
    end(task)
    wait_for(lambda: gone(place.pid()))


def test_a_job_dies_with_the_supervisor_of_its_task(place: Place) -> None:
    place.job(READY + FOR_EVER)
    source = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    supervisor = subprocess.Popen([sys.executable, "-c", source, TASK, str(place.path), ""], env=AS_WE_DO)
    pid = place.pid()
    end(supervisor)
    wait_for((place.path / "failed").exists)
    assert gone(pid)


def test_a_supervisor_may_die_just_as_the_job_starts(place: Place) -> None:
    place.job(READY + FOR_EVER)
    start = "process = start(*given)\n    while os.getppid() == parent: time.sleep(0.01)\n    return process"
    slow = f"""
start, parent = ProcessRunner._start, os.getppid()
def started(*given):
    {start}
ProcessRunner._start = started
"""
    head, run = TASK.split("try:\n", 1)
    source = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    task = f"import os, time\n{head}{slow}try:\n{run}"
    supervisor = subprocess.Popen([sys.executable, "-c", source, task, str(place.path), ""], env=AS_WE_DO)
    pid = place.pid()
    end(supervisor)
    wait_for((place.path / "failed").exists)
    assert gone(pid)


def test_a_lock_lives_as_long_as_the_job_and_names_its_holder(place: Place) -> None:
    task = place.task(READY + FOR_EVER, "one")
    with pytest.raises(JobFailed) as failed:
        place.run(place.job(DONE, "one"), lock_patience_s=0.2)
    assert "The lock one is held by the job of the_dag the_task the_run" in str(failed.value)
    assert f"(process {place.pid()}, since 20" in str(failed.value)
    assert place.run(place.job(DONE, "two")).exit_code == 0, "another lock is free"
    end(task)
    assert place.run(place.job(DONE, "one")).exit_code == 0


def test_a_job_that_is_ending_is_waited_for(place: Place) -> None:
    task = place.task(READY + UNTIL_GO + DONE, "one")
    outcomes: list[Any] = []
    spec = place.job("assert Path('go').exists()\n" + DONE, "one")
    second = threading.Thread(target=lambda: outcomes.append(place.run(spec)))
    second.start()
    (place.path / "go").touch()
    second.join()
    assert task.wait() == 0
    assert outcomes[0].exit_code == 0


def test_a_task_that_waits_for_a_lock_can_be_ended(place: Place) -> None:
    task = place.task(READY + FOR_EVER, "one")
    runner = ProcessRunner(place.at)
    waiting = threading.Timer(0.2, runner.kill)
    waiting.start()
    with pytest.raises(JobFailed, match=r"^The task was ended while it waited for the lock one"):
        runner.run(place.job(DONE, "one"), print)
    end(task)


@pytest.mark.parametrize("source", ["", DEAF])
def test_an_orphan_is_ended_before_the_next_job_starts(place: Place, source: str) -> None:
    task = place.task(STAYS + source + READY + FOR_EVER, "one")
    end(task)
    orphan = place.pid()
    assert not gone(orphan), "this job must survive its task, or the test shows nothing"
    alone = f"stat = Path('/proc/{orphan}/stat')\nassert not stat.exists() or ') Z ' in stat.read_text()\n"
    spec = place.job(alone + DONE, "one")
    assert place.run(spec, lock_patience_s=0.3).exit_code == 0
    assert gone(orphan)


def test_no_process_is_ended_for_having_the_pid_of_an_orphan(place: Place) -> None:
    innocent = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    (place.path / "run").mkdir()
    lock = place.path / "run" / "one.lock"
    describe_holder = json.dumps({"task_pid": 0, "task_started": "1"})
    lock.write_text(f"{describe_holder}\n{innocent.pid} 1\n", "utf-8")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(JobFailed, match=r"^The lock one is held by"):
            place.run(place.job(DONE, "one"), lock_patience_s=0.2)
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_lock_of_which_nothing_is_known_yet_is_waited_for(place: Place) -> None:
    (place.path / "run").mkdir()
    with (place.path / "run" / "one.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(JobFailed, match=r"^The lock one has been held by a job that is still starting"):
            place.run(place.job(DONE, "one"), lock_patience_s=0.2)


def test_a_program_that_cannot_be_started_is_named(place: Place) -> None:
    (place.path / "python").write_text("no program", "utf-8")
    (place.path / "python").chmod(0o755)
    with pytest.raises(JobFailed, match=r"^The job fraud_job cannot be started"):
        place.run(place.job(DONE), python=place.path / "python")


def test_a_runner_is_configured_by_the_environment(tmp_path: Path) -> None:
    worker = {"JOB_PYTHON": sys.executable, "JOB_CWD": str(tmp_path), "JOB_RUN_DIR": str(tmp_path / "run")}
    more = {
        "JOB_PYTHONPATH": str(tmp_path / "lib"),
        "PATH": "/worker",
        "JOB_PATH": "/own",
        "PYTHONPATH": "/dags",
    }
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "fraud_x.py").write_text(
        "import json, os; open(os.environ['RESULT_PATH'], 'w').write(json.dumps(dict(os.environ)))"
    )
    spec = JobSpec("n", {}, "i", ("python", "-m", "fraud_x"), {}, {})
    result = from_environment(worker | more).run(spec, print).result
    assert result is not None
    assert (result["PATH"], result["PYTHONPATH"], result["TZ"]) == ("/own", str(tmp_path / "lib"), "UTC")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"JOB_PYTHON": ""}, "^JOB_PYTHON is not set"),
        ({"JOB_RUN_DIR": ""}, "^JOB_RUN_DIR is not set"),
        ({"JOB_PYTHON": "/nowhere/python"}, "^JOB_PYTHON: /nowhere/python is not a program"),
        ({"JOB_CWD": "/nowhere"}, "^JOB_CWD: there is no directory /nowhere"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    worker = {"JOB_PYTHON": sys.executable, "JOB_CWD": str(tmp_path), "JOB_RUN_DIR": str(tmp_path / "run")}
    with pytest.raises(JobRefused, match=message):
        from_environment(worker | changed)


def test_a_run_directory_that_cannot_be_made_is_named(place: Place) -> None:
    (place.path / "run").write_text("a file", "utf-8")
    with pytest.raises(JobRefused, match=r"^JOB_RUN_DIR: .* cannot be used"):
        place.run(place.job(DONE))
