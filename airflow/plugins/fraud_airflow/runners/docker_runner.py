"""JOB_RUNNER=docker: each job runs in a container, which the docker-proxy ends when its task is gone."""

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
from fraud_airflow.lines import Line, ignoring_errors
from fraud_airflow.runners import docker_result
from fraud_airflow.runners.docker_api import DockerClient, StreamBroken, explanation
from fraud_airflow.runners.docker_exit import ContainerExit
from fraud_airflow.runners.docker_logs import LogReader
from fraud_airflow.runners.timeouts import KILL_PATIENCE_S, LOCK_PATIENCE_S

_INTERVAL_S: Final = 1.0  # how often to check whether the task still has a supervisor
_RETRY_INTERVAL_S: Final = 0.3
_LOCK_INTERVAL_S: Final = 0.2
_KILLED: Final = b"!"
_READ: Final = b"."
_TASK_LABELS: Final = ("fraud.dag_id", "fraud.task_id", "fraud.run_id", "fraud.map_index")
_SHELL_SIGNAL: Final = 128  # added to the signal number in a container's exit code
_MIB: Final = 2**20


class DockerRunner:
    """Runs one job at a time."""

    def __init__(self, docker: DockerClient, lock_patience_s: float = LOCK_PATIENCE_S) -> None:
        self._docker = docker
        self._lock_patience_s = lock_patience_s
        self._killed = False
        self._wake_pipe: int | None = None
        self._error: BaseException | None = None
        self._supervisor = 0

    def run(self, spec: JobSpec, line: Line) -> JobOutcome:
        """See `fraud_airflow.jobs.JobRunner`."""
        self._supervisor = os.getppid()  # it may be gone as soon as the job runs
        self._end_previous_try(spec)
        with self._container(spec) as container:
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
        """Stop the job: SIGTERM first, SIGKILL after KILL_PATIENCE_S.

        Takes no lock: it runs in a signal handler, and the interrupted code may hold any lock.
        """
        self._killed = True
        self._wake(_KILLED)

    def _wake(self, reason: bytes) -> None:
        if self._wake_pipe is not None:
            os.write(self._wake_pipe, reason)

    def _run(self, container: str, spec: JobSpec, line: Line) -> int:
        with ContainerExit(self._docker, container) as container_exit:
            self._start(container, spec)
            # Another thread reads the log, so that this one can handle signals.
            arguments = (self._read, container, container_exit, line)
            log = threading.Thread(target=copy_context().run, args=arguments, name="job's log", daemon=True)
            read_end, self._wake_pipe = os.pipe()
            log.start()
            try:
                self._supervise(container, container_exit, read_end)
            except BaseException:
                # Such as a timeout: the job must not run on unsupervised.
                self.kill()
                self._supervise(container, container_exit, read_end)
                raise
            finally:
                write_end, self._wake_pipe = self._wake_pipe, None
                log.join(1)
                if not log.is_alive():  # it is alive if the join was interrupted again
                    os.close(write_end)
                    os.close(read_end)
            if self._error is not None:
                raise self._error
            return _exit_code(container_exit.status())

    def _supervise(self, container: str, container_exit: ContainerExit, read_end: int) -> None:
        """Until the log is complete, stop the container once the task or its supervisor has ended."""
        while True:
            if os.getppid() != self._supervisor:
                self._killed = True
            if self._killed and not container_exit.is_known():
                with suppress(APIError, JobFailed):
                    self._stop(container)
            pause = _RETRY_INTERVAL_S if self._killed else _INTERVAL_S
            if select.select([read_end], [], [], pause)[0] and _READ in os.read(read_end, 64):
                return

    def _read(self, container: str, container_exit: ContainerExit, line: Line) -> None:
        reader = LogReader()
        try:
            self._follow(container, reader, container_exit, line)
        except BaseException as error:
            # The log cannot be read or written: the job must not run on unsupervised.
            self._error = error
            self.kill()
            with suppress(APIError, JobFailed):
                self._follow(container, reader, container_exit, ignoring_errors(line))
        finally:
            self._wake(_READ)

    def _end_previous_try(self, spec: JobSpec) -> None:
        """End containers that an earlier try of this task left running."""
        if not all(spec.labels.get(name) for name in _TASK_LABELS):
            return
        filters = {"label": [f"{name}={spec.labels[name]}" for name in _TASK_LABELS]}
        try:
            containers = self._docker.call(lambda client: client.containers(all=True, filters=filters))
        except APIError as error:
            raise _creation_error(error) from None
        for container in containers:
            with suppress(APIError):
                self._stop(container["Id"])
            self._remove(container["Id"])

    @contextmanager
    def _container(self, spec: JobSpec) -> Iterator[str]:
        container = self._create(spec)
        try:
            yield container
        finally:
            self._remove(container)

    def _stop(self, container: str) -> None:
        self._docker.call(lambda client: client.stop(container, timeout=int(KILL_PATIENCE_S)))

    def _remove(self, container: str) -> None:
        # If this fails, the proxy removes the container, for which nobody waits any more.
        with suppress(APIError, JobFailed):
            self._docker.call(lambda client: client.remove_container(container, v=True, force=True), 1)

    def _create(self, spec: JobSpec) -> str:
        """Create the container and return its id. Its name is the lock: Docker permits one container per
        name."""
        deadline = time.monotonic() + self._lock_patience_s
        while not self._killed:
            try:
                return str(self._docker.call(lambda client: _create_container(client, spec))["Id"])
            except APIError as error:
                if error.status_code != 409:
                    raise _creation_error(error, spec) from None
                if time.monotonic() > deadline:
                    raise JobFailed(self._lock_held_message(spec, error)) from None
            time.sleep(_LOCK_INTERVAL_S)
        raise JobFailed(
            f"The task was ended while it waited for the lock {spec.single}."
            if spec.single
            else "The task was ended before its job was started."
        )

    def _lock_held_message(self, spec: JobSpec, conflict: APIError) -> str:
        name = spec.container
        lock, patience = spec.single or name, f"{self._lock_patience_s:g} s"
        try:
            holder = self._docker.call(lambda client: client.inspect_container(name))
        except APIError:
            return f"The lock {lock} was not available within {patience}: {explanation(conflict)}."
        labels = holder["Config"]["Labels"]
        task = " ".join(str(labels.get(f"fraud.{key}_id", "?")) for key in ("dag", "task", "run"))
        return (
            f"The lock {lock} is held by the job of {task} (container {name}, since "
            f"{holder['Created'][:19]}Z), which did not end within {patience}: wait for it, or end it."
        )

    def _start(self, container: str, spec: JobSpec) -> None:
        if self._killed:
            raise JobFailed("The task was ended before its job was started.")
        try:
            self._docker.call(lambda client: client.start(container))
        except APIError as error:
            raise JobFailed(f"The job {spec.title} cannot be started: {explanation(error)}.") from None

    def _follow(self, container: str, reader: LogReader, container_exit: ContainerExit, line: Line) -> None:
        """Forward the log until the container has ended, then read the remaining lines.

        The daemon may end a followed log before its last lines.
        """
        complete = False
        while not complete:
            ended = container_exit.is_known()
            query = {**reader.query(), "follow": "0" if ended else "1"}
            log = self._docker.open("GET", f"/containers/{container}/logs", **query)
            with log, suppress(StreamBroken):
                for text in reader.lines(self._docker.frames(log)):
                    line(text)
                complete = ended
            if not ended:
                container_exit.is_known(0.5)
        for text in reader.rest():
            line(text)

    def _check_memory(self, container: str, code: int) -> None:
        if code in (0, 99):
            return
        inspection = self._docker.call(lambda client: client.inspect_container(container))
        if inspection["State"]["OOMKilled"]:
            raise JobFailed(
                f"The job ran out of its {inspection['HostConfig']['Memory'] // _MIB} MiB of memory."
            )


def _create_container(client: Any, spec: JobSpec) -> dict[str, Any]:
    variables = {**PROCESS_ENVIRONMENT, **spec.environment, **spec.private, RESULT_PATH: docker_result.PATH}
    created: dict[str, Any] = client.create_container(
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
    return created


def _creation_error(error: APIError, spec: JobSpec | None = None) -> JobRefused | JobFailed:
    """JobFailed if another try may help, JobRefused if the daemon or the proxy refused the job."""
    if spec is not None and error.status_code == 404:
        return JobRefused(
            f"The image {spec.image} is not on this machine: build or pull it, or name another with "
            "JOB_IMAGE_PREFIX and JOB_IMAGE_TAG."
        )
    if error.is_client_error():
        return JobRefused(f"The Docker proxy refuses the job: {explanation(error)}.")
    return JobFailed(f"Docker cannot create the job's container: {explanation(error)}.")


def _exit_code(status: int) -> int:
    return _SHELL_SIGNAL - status if _SHELL_SIGNAL < status <= _SHELL_SIGNAL + 64 else status
