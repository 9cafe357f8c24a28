"""The two ways to run a job, behind one interface for the tests."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from docker import APIClient

from fraud_airflow.jobs import JobOutcome, JobRunner, JobSpec, task_labels
from fraud_airflow.runners.docker_api import DockerClient
from fraud_airflow.runners.docker_runner import DockerRunner
from fraud_airflow.runners.process_runner import ProcessRunner, ProcessSettings
from tests.stack.docker_project import JOB, DockerProject
from tests.support.waiting import eventually

BEGIN: Final = "import json, sys, time\nresult = os.environ['RESULT_PATH']\n"
DONE: Final = "open(result, 'w').write('{\"done\": true}')\n"
UP: Final = "print('up', flush=True)\n"
FOR_EVER: Final = "while True: time.sleep(0.05)\n"
DEAF: Final = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
# A task as a process of its own, which can be killed.
TASK: Final = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from fraud_airflow.jobs import JobSpec
from tests.stack.runner_kinds import from_description
kind, spec = json.loads(sys.argv[2]), JobSpec(**json.loads(sys.argv[3]))
try:
    outcome = from_description(kind).run(spec, lambda line: print(line, flush=True))
    print("ended:", outcome.exit_code, flush=True)
except Exception as error:
    print("failed:", error, flush=True)
"""


def client(port: int) -> Callable[[], APIClient]:
    """A Docker client for a proxy, connected on first use as the operator's hook is."""
    return cache(lambda: APIClient(f"tcp://127.0.0.1:{port}", version="auto"))


class RunnerKind(Protocol):
    """Runs the jobs of a test, as processes or in containers."""

    @property
    def description(self) -> dict[str, Any]:
        """What another process needs to run jobs in the same installation."""

    def spec(self, source: str, single: str | None = None, **changed: Any) -> JobSpec: ...

    def running(self) -> bool:
        """Whether any job runs."""


def from_description(kind: dict[str, Any]) -> JobRunner:
    if "port" in kind:
        return DockerRunner(DockerClient(client(kind["port"])), kind["lock_patience_s"])
    folder = Path(kind["place"])
    at = ProcessSettings(Path(sys.executable), folder, folder / "run", {}, 0.5, kind["lock_patience_s"])
    return ProcessRunner(at)


class Containers:
    def __init__(self, docker_project: DockerProject) -> None:
        self.docker_project = docker_project

    @property
    def description(self) -> dict[str, Any]:
        return {"port": self.docker_project.proxy.port}

    def spec(self, source: str, single: str | None = None, **changed: Any) -> JobSpec:
        return _spec(self.docker_project.image, source, single, changed)

    def running(self) -> bool:
        return bool(self.docker_project.containers())


class Processes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "fraud_job.py").write_text(JOB, "utf-8")
        self._mark = f"mark-{secrets.token_hex(8)}"

    @property
    def description(self) -> dict[str, Any]:
        return {"place": str(self.folder)}

    def spec(self, source: str, single: str | None = None, **changed: Any) -> JobSpec:
        spec = _spec("none", source, single, changed)
        return replace(spec, command=(*spec.command, self._mark))

    def running(self) -> bool:
        jobs = [path for path in Path("/proc").glob("[0-9]*/cmdline") if self._is_own(path)]
        return bool(jobs)

    def _is_own(self, path: Path) -> bool:
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            return False
        return self._mark.encode() in arguments


def _spec(image: str, source: str, single: str | None, changed: dict[str, Any]) -> JobSpec:
    run = changed.pop("run", "the_run")
    labels = task_labels("the_dag", "the_task", run, -1, 1)
    name = f"fraud-job-test-{secrets.token_hex(6)}"
    command = ("python", "-m", "fraud_job")
    spec = JobSpec(name, labels, image, command, {"JOB_SOURCE": BEGIN + source}, {}, single)
    changed["environment"] = {**spec.environment, **changed.get("environment", {})}
    return replace(spec, **changed)


def runner(docker_project: RunnerKind, lock_patience_s: float = 60) -> JobRunner:
    return from_description({**docker_project.description, "lock_patience_s": lock_patience_s})


def run(
    docker_project: RunnerKind, source: str, line: Callable[[str], None] = lambda _: None, **changed: Any
) -> JobOutcome:
    return runner(docker_project).run(docker_project.spec(source, **changed), line)


class Task:
    """A process that runs a job as a task does."""

    def __init__(
        self, docker_project: RunnerKind, source: str, supervised: bool = False, **changed: Any
    ) -> None:
        spec = docker_project.spec(source, **changed)
        fields = {name: getattr(spec, name) for name in _PLAIN}
        kind = {**docker_project.description, "lock_patience_s": 60}
        command = [sys.executable, "-c", TASK, *map(json.dumps, (sys.path, kind, fields))]
        if supervised:
            command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TZ": "UTC"})

    def line(self) -> str:
        """The next line of the job, or the task's report about it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


_PLAIN: Final = ("name", "labels", "image", "command", "environment", "private", "single")


def no_jobs_left(docker_project: RunnerKind) -> bool:
    return eventually(lambda: not docker_project.running(), 60)
