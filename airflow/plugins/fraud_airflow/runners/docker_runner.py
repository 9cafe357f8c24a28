"""JOB_RUNNER=docker: a job is a container of its own, which the docker-proxy ends when its task is gone."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, Final

from docker.errors import APIError

from config.constants import PROCESS_ENVIRONMENT
from fraud_airflow.jobs import RESULT_PATH, JobFailed, JobOutcome, JobRefused, JobSpec
from fraud_airflow.runners import docker_result
from fraud_airflow.runners.docker_api import Broken, Docker, explanation
from fraud_airflow.runners.docker_logs import LogReader
from fraud_airflow.runners.docker_watch import Ending
from fraud_airflow.runners.terms import KILL_PATIENCE_S, LOCK_PATIENCE_S, Line, quiet

_INTERVAL_S: Final = 1.0  # how often to look whether the task still has a supervisor
_AGAIN_S: Final = 0.3
_LOCK_INTERVAL_S: Final = 0.2
_KILLED: Final = b"!"
_READ: Final = b"."
_TASK: Final = ("fraud.dag_id", "fraud.task_id", "fraud.run_id", "fraud.map_index")
_SHELL_SIGNAL: Final = 128  # what a container adds to the number of the signal that ended it
_MIB: Final = 2**20


class DockerRunner:
    """Runs one job at a time."""

    def __init__(self, docker: Docker, lock_patience_s: float = LOCK_PATIENCE_S) -> None:
        self._docker = docker
        self._lock_patience_s = lock_patience_s
        self._killed = False
        self._bell: int | None = None
        self._error: BaseException | None = None

    def run(self, spec: JobSpec, line: Line) -> JobOutcome:
        """See `fraud_airflow.jobs.JobRunner`."""
        self._reap(spec)
        with self._created(spec) as container:
            try:
                code = self._run(container, spec, line)
                if self._killed and code != 0:
                    raise JobFailed("The job was ended, because its task was.")
                self._check_memory(container, code)
                document, problem = docker_result.read(self._docker, container)
            except APIError as error:
                raise JobFailed(f"The job's container is gone: {explanation(error)}.") from None
        return JobOutcome(code, document, problem)

    def kill(self) -> None:
        """Have the job asked to end, and made to after a patience.

        Takes no lock: it runs in a signal handler, and what it interrupts may hold any.
        """
        self._killed = True
        self._ring(_KILLED)

    def _ring(self, why: bytes) -> None:
        if self._bell is not None:
            os.write(self._bell, why)

    def _run(self, container: str, spec: JobSpec, line: Line) -> int:
        with Ending(self._docker, container) as ending:
            self._start(container, spec)
            # The log is read beside, so that this thread is free for signals.
            arguments = (self._read, container, ending, line)
            log = threading.Thread(target=copy_context().run, args=arguments, name="job's log", daemon=True)
            rung, self._bell = os.pipe()
            log.start()
            try:
                self._guard(container, ending, rung)
            except BaseException:
                # A timeout: nothing may run on unseen.
                self.kill()
                self._guard(container, ending, rung)
                raise
            finally:
                bell, self._bell = self._bell, None
                log.join(1)
                if not log.is_alive():  # or it was interrupted again
                    os.close(bell)
                    os.close(rung)
            if self._error is not None:
                raise self._error
            return _exit_code(ending.status())

    def _guard(self, container: str, ending: Ending, rung: int) -> None:
        """Until the log is read, have the container ended when the task or its supervisor is."""
        parent = os.getppid()
        while True:
            if os.getppid() != parent:
                self._killed = True
            if self._killed and not ending.has_come():
                with suppress(APIError, JobFailed):
                    self._stop(container)
            pause = _AGAIN_S if self._killed else _INTERVAL_S
            if select.select([rung], [], [], pause)[0] and _READ in os.read(rung, 64):
                return

    def _read(self, container: str, ending: Ending, line: Line) -> None:
        reader = LogReader()
        try:
            self._follow(container, reader, ending, line)
        except BaseException as error:
            # The log cannot be written, or not be read: nothing may run on unseen.
            self._error = error
            self.kill()
            with suppress(APIError, JobFailed):
                self._follow(container, reader, ending, quiet(line))
        finally:
            self._ring(_READ)

    def _reap(self, spec: JobSpec) -> None:
        """End what an earlier try of this task left."""
        if not all(spec.labels.get(name) for name in _TASK):
            return
        filters = {"label": [f"{name}={spec.labels[name]}" for name in _TASK]}
        try:
            found = self._docker.call(lambda client: client.containers(all=True, filters=filters))
        except APIError as error:
            raise _refusal(error) from None
        for left in found:
            with suppress(APIError):
                self._stop(left["Id"])
            self._remove(left["Id"])

    @contextmanager
    def _created(self, spec: JobSpec) -> Iterator[str]:
        container = self._create(spec)
        try:
            yield container
        finally:
            self._remove(container)

    def _stop(self, container: str) -> None:
        self._docker.call(lambda client: client.stop(container, timeout=int(KILL_PATIENCE_S)))

    def _remove(self, container: str) -> None:
        # Where this fails, the proxy removes what nobody waits for.
        with suppress(APIError, JobFailed):
            self._docker.call(lambda client: client.remove_container(container, v=True, force=True), 1)

    def _create(self, spec: JobSpec) -> str:
        """The id of the new container; its name is the lock, which Docker gives to one at a time."""
        deadline = time.monotonic() + self._lock_patience_s
        while not self._killed:
            try:
                return str(self._docker.call(lambda client: _container(client, spec))["Id"])
            except APIError as error:
                if error.status_code != 409:
                    raise _refusal(error, spec) from None
                if time.monotonic() > deadline:
                    raise JobFailed(self._held(spec, error)) from None
            time.sleep(_LOCK_INTERVAL_S)
        raise JobFailed(
            f"The task was ended while it waited for the lock {spec.single}."
            if spec.single
            else "The task was ended before its job was started."
        )

    def _held(self, spec: JobSpec, conflict: APIError) -> str:
        name = spec.container
        lock, patience = spec.single or name, f"{self._lock_patience_s:g} s"
        try:
            holder = self._docker.call(lambda client: client.inspect_container(name))
        except APIError:
            return f"The lock {lock} was not to be had within {patience}: {explanation(conflict)}."
        labels = holder["Config"]["Labels"]
        who = " ".join(str(labels.get(f"fraud.{key}_id", "?")) for key in ("dag", "task", "run"))
        return (
            f"The lock {lock} is held by the job of {who} (container {name}, since "
            f"{holder['Created'][:19]}Z), which did not end within {patience}: wait for it, or end it."
        )

    def _start(self, container: str, spec: JobSpec) -> None:
        if self._killed:
            raise JobFailed("The task was ended before its job was started.")
        try:
            self._docker.call(lambda client: client.start(container))
        except APIError as error:
            raise JobFailed(f"The job {spec.title} cannot be started: {explanation(error)}.") from None

    def _follow(self, container: str, reader: LogReader, ending: Ending, line: Line) -> None:
        """Pass the log on until the container has ended, and then what came after it was last read.

        A daemon can end a log it follows before its last lines.
        """
        complete = False
        while not complete:
            ended = ending.has_come()
            query = {**reader.query(), "follow": "0" if ended else "1"}
            log = self._docker.open("GET", f"/containers/{container}/logs", **query)
            with log, suppress(Broken):
                for text in reader.lines(self._docker.frames(log)):
                    line(text)
                complete = ended
            if not ended:
                ending.has_come(0.5)
        for text in reader.rest():
            line(text)

    def _check_memory(self, container: str, code: int) -> None:
        if code in (0, 99):
            return
        about = self._docker.call(lambda client: client.inspect_container(container))
        if about["State"]["OOMKilled"]:
            raise JobFailed(f"The job ran out of its {about['HostConfig']['Memory'] // _MIB} MiB of memory.")


def _container(client: Any, spec: JobSpec) -> dict[str, Any]:
    variables = {**PROCESS_ENVIRONMENT, **spec.environment, **spec.private, RESULT_PATH: docker_result.PATH}
    made: dict[str, Any] = client.create_container(
        spec.image,
        list(spec.command),
        name=spec.container,
        environment=variables,
        labels=dict(spec.labels),
        host_config=client.create_host_config(
            mem_limit=spec.limits.memory_mib * _MIB,
            nano_cpus=int(spec.limits.cpus * 1e9),
            pids_limit=spec.limits.pids,
            network_mode=spec.network,
        ),
        use_config_proxy=False,
    )
    return made


def _refusal(error: APIError, spec: JobSpec | None = None) -> JobRefused | JobFailed:
    """Another try helps where the daemon failed, not where it or the proxy refused."""
    if spec is not None and error.status_code == 404:
        return JobRefused(
            f"The image {spec.image} is not on this machine: build or pull it, or name another with "
            "JOB_IMAGE_PREFIX and JOB_IMAGE_TAG."
        )
    if error.is_client_error():
        return JobRefused(f"The Docker proxy refuses the job: {explanation(error)}.")
    return JobFailed(f"Docker cannot make the job's container: {explanation(error)}.")


def _exit_code(status: int) -> int:
    return _SHELL_SIGNAL - status if _SHELL_SIGNAL < status <= _SHELL_SIGNAL + 64 else status
