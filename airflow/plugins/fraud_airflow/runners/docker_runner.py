"""JOB_RUNNER=docker: a job is a container of its own, which the docker-proxy ends when its task is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from config.constants import PROCESS_ENVIRONMENT
from fraud_airflow.jobs import RESULT_PATH, JobFailed, JobOutcome, JobRefused, JobSpec
from fraud_airflow.runners import docker_api, docker_result
from fraud_airflow.runners.docker_api import Answer, Broken, Docker
from fraud_airflow.runners.docker_logs import LogReader
from fraud_airflow.runners.docker_watch import Ending, Guard
from fraud_airflow.runners.terms import KILL_PATIENCE_S, LOCK_PATIENCE_S, Line, quiet

_LOCK_INTERVAL_S: Final = 0.2
_TASK: Final = ("fraud.dag_id", "fraud.task_id", "fraud.run_id", "fraud.map_index")
_SHELL_SIGNAL: Final = 128  # what a container adds to the number of the signal that ended it
_MIB: Final = 2**20


def from_environment(worker: Mapping[str, str]) -> DockerRunner:
    """A runner for the proxy DOCKER_HOST names.

    Raises:
        JobRefused: it names none.
    """
    return DockerRunner(docker_api.from_host(worker.get("DOCKER_HOST")))


class DockerRunner:
    """Runs one job at a time."""

    def __init__(self, docker: Docker, lock_patience_s: float = LOCK_PATIENCE_S) -> None:
        self._docker = docker
        self._lock_patience_s = lock_patience_s
        self._killed = False
        self._guard: Guard | None = None

    def run(self, spec: JobSpec, line: Line) -> JobOutcome:
        """See `fraud_airflow.jobs.JobRunner`."""
        self._reap(spec)
        with self._created(spec) as container:
            code = self._run(container, spec, line)
            if self._killed and code != 0:
                raise JobFailed("The job was ended, because its task was.")
            self._check_memory(container, code)
            document, problem = docker_result.read(self._docker, container)
        return JobOutcome(code, document, problem)

    def kill(self) -> None:
        """Have the job asked to end, and made to after a patience.

        Takes no lock: it runs in a signal handler, and what it interrupts may hold any.
        """
        self._killed = True
        if self._guard is not None:
            self._guard.end()

    def _run(self, container: str, spec: JobSpec, line: Line) -> int:
        reader = LogReader()
        with Ending(self._docker, container) as ending, self._guarded(container, ending):
            self._start(container, spec)
            try:
                self._follow(container, reader, ending, line)
            except BaseException:
                # A timeout, or a log that cannot be written: nothing may run on unseen.
                self.kill()
                with suppress(JobFailed):
                    self._follow(container, reader, ending, quiet(line))
                raise
            return _exit_code(ending.status())

    @contextmanager
    def _guarded(self, container: str, ending: Ending) -> Iterator[None]:
        with Guard(self._docker, container, ending, self.kill) as guard:
            self._guard = guard
            try:
                yield
            finally:
                self._guard = None

    def _reap(self, spec: JobSpec) -> None:
        """End what an earlier try of this task left."""
        if not all(spec.labels.get(name) for name in _TASK):
            return
        filters = json.dumps({"label": [f"{name}={spec.labels[name]}" for name in _TASK]})
        answer = self._docker.call("GET", "/containers/json", {"all": 1, "filters": filters})
        if answer.status != 200:
            raise _refusal(answer)
        for left in answer.document():
            self._docker.call("POST", f"/containers/{left['Id']}/stop", {"t": int(KILL_PATIENCE_S)})
            self._remove(left["Id"])

    @contextmanager
    def _created(self, spec: JobSpec) -> Iterator[str]:
        container = self._create(spec)
        try:
            yield container
        finally:
            # Where this fails, the proxy removes what nobody waits for.
            with suppress(JobFailed):
                self._remove(container)

    def _remove(self, container: str) -> None:
        self._docker.call("DELETE", f"/containers/{container}", {"force": 1, "v": 1}, patience_s=1)

    def _create(self, spec: JobSpec) -> str:
        """The id of the new container; its name is the lock, which Docker gives to one at a time."""
        name = spec.name if spec.single is None else f"fraud-single-{spec.single}"
        deadline = time.monotonic() + self._lock_patience_s
        while not self._killed:
            answer = self._docker.call("POST", "/containers/create", {"name": name}, _body(spec))
            if answer.status == 201:
                return str(answer.document()["Id"])
            if answer.status != 409:
                raise _refusal(answer, spec)
            if time.monotonic() > deadline:
                raise JobFailed(self._held(name, spec))
            time.sleep(_LOCK_INTERVAL_S)
        raise JobFailed(
            f"The task was ended while it waited for the lock {spec.single}."
            if spec.single
            else "The task was ended before its job was started."
        )

    def _held(self, name: str, spec: JobSpec) -> str:
        lock, patience = spec.single or name, f"{self._lock_patience_s:g} s"
        answer = self._docker.call("GET", f"/containers/{name}/json")
        if answer.status != 200:
            return f"The lock {lock} was not to be had within {patience}: {answer.message()}."
        holder = answer.document()
        labels = holder["Config"]["Labels"]
        who = " ".join(str(labels.get(f"fraud.{key}_id", "?")) for key in ("dag", "task", "run"))
        return (
            f"The lock {lock} is held by the job of {who} (container {name}, since "
            f"{holder['Created'][:19]}Z), which did not end within {patience}: wait for it, or end it."
        )

    def _start(self, container: str, spec: JobSpec) -> None:
        if self._killed:
            raise JobFailed("The task was ended before its job was started.")
        answer = self._docker.call("POST", f"/containers/{container}/start")
        if answer.status not in (204, 304):
            raise JobFailed(f"The job {spec.module} cannot be started: {answer.message()}.")

    def _follow(self, container: str, reader: LogReader, ending: Ending, line: Line) -> None:
        """Pass the log on until the container has ended, and then what came after it was last read.

        A daemon can end a log it follows before its last lines.
        """
        complete = False
        while not complete:
            ended = ending.has_come()
            query = {**reader.query(), "follow": 0 if ended else 1}
            with self._docker.open("GET", f"/containers/{container}/logs", query) as log:
                if log.response.status != 200:
                    raise JobFailed(f"The job's container is gone: {log.answer().message()}.")
                with suppress(Broken):
                    for text in reader.lines(log):
                        line(text)
                    complete = ended
            if not ended:
                ending.has_come(0.5)
        for text in reader.rest():
            line(text)

    def _check_memory(self, container: str, code: int) -> None:
        if code in (0, 99):
            return
        about = self._docker.call("GET", f"/containers/{container}/json").document()
        if about.get("State", {}).get("OOMKilled"):
            limit = about["HostConfig"]["Memory"] // _MIB
            raise JobFailed(f"The job ran out of its {limit} MiB of memory.")


def _body(spec: JobSpec) -> dict[str, Any]:
    variables = {**PROCESS_ENVIRONMENT, **spec.environment, **spec.private, RESULT_PATH: docker_result.PATH}
    return {
        "Image": spec.image,
        "Cmd": ["python", "-m", spec.module, *spec.arguments],
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": dict(spec.labels),
        "HostConfig": {
            "Memory": spec.limits.memory_mib * _MIB,
            "NanoCpus": int(spec.limits.cpus * 1e9),
            "PidsLimit": spec.limits.pids,
        },
    }


def _refusal(answer: Answer, spec: JobSpec | None = None) -> JobRefused | JobFailed:
    """Another try helps where the daemon failed, not where it or the proxy refused."""
    if spec is not None and answer.status == 404:
        return JobRefused(
            f"The image {spec.image} is not on this machine: build or pull it, or name another with "
            "JOB_IMAGE_PREFIX and JOB_IMAGE_TAG."
        )
    if 400 <= answer.status < 500:
        return JobRefused(f"The Docker proxy refuses the job: {answer.message()}.")
    return JobFailed(f"Docker cannot make the job's container: {answer.message()}.")


def _exit_code(status: int) -> int:
    return _SHELL_SIGNAL - status if _SHELL_SIGNAL < status <= _SHELL_SIGNAL + 64 else status
