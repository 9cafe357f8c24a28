"""FraudDockerOperator: the one operator for the platform's jobs."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from docker.errors import DockerException
from docker.utils import parse_bytes

from config.job_results.common import EXIT_CONFIGURATION, EXIT_DONE, EXIT_NOTHING_TO_DO
from config.services import JobLimits
from fraud_airflow import jobs, lines
from fraud_airflow.runners.selection import choose_runner

if TYPE_CHECKING:
    from airflow.sdk import Context
    from docker import APIClient

_LOCK_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_PROXY: Final = re.compile(r"tcp://[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}/?")
_MIB: Final = 2**20
# The arguments of DockerOperator that jobs support; all others are refused.
_SUPPORTED: Final = frozenset(
    {
        *("self", "kwargs", "image", "command", "container_name", "network_mode", "mem_limit", "cpus"),
        *("environment", "private_environment", "env_file", "skip_on_exit_code"),
        *("docker_conn_id", "docker_url", "api_version", "timeout", "tls_ca_cert", "tls_client_cert"),
        *("tls_client_key", "tls_verify", "tls_hostname", "tls_ssl_version"),
    }
)
_FIXED: Final[Mapping[str, object]] = {"auto_remove": "force", "mount_tmp_dir": False}
_UNSUPPORTED: Final[Mapping[str, object]] = {
    name: _FIXED.get(name, parameter.default)
    for name, parameter in inspect.signature(DockerOperator.__init__).parameters.items()
    if name not in _SUPPORTED
}


class FraudDockerOperator(DockerOperator):
    """Runs a job in a container or as a process, as JOB_RUNNER says, and returns its result.

    `service`, `verb` and `arguments` set the arguments of a DockerOperator: `command` (`python -m
    fraud_<service> <verb> <arguments>`), `image`, `mem_limit`, `cpus` and the variables of a job, public and
    private. Arguments that are given explicitly take precedence. An argument whose template renders to
    nothing is left out. `environment` is shown in the web UI, so no secret belongs there. With `single` no
    two jobs of that name run at once. `execution_timeout` ends the job too.

    Raises:
        ValueError: at parse time; the message names the argument.
    """

    template_fields_renderers = {"command": "json", "environment": "json"}  # noqa: RUF012
    ui_color = "#e6f2ff"

    def __init__(
        self,
        *,
        service: str | None = None,
        verb: str | None = None,
        arguments: Sequence[str] = (),
        single: str | None = None,
        image: str | None = None,
        command: str | list[str] | None = None,
        environment: dict[str, Any] | None = None,
        mem_limit: float | str | None = None,
        cpus: float | None = None,
        **kwargs: Any,
    ) -> None:
        definition = None if service is None else jobs.check_service(service)
        limits = JobLimits() if definition is None else definition.limits
        if not isinstance(arguments, list | tuple):
            raise ValueError("arguments: write a list of strings, one an argument.")
        if single is not None and not _LOCK_NAME.fullmatch(single):
            raise ValueError(
                f"single: {single!r} is not a lock name: use lower-case letters, digits, - and _."
            )
        jobs.check_environment(environment or {})
        jobs.check_environment(kwargs.get("private_environment") or {}, private=True)
        if definition is not None:
            image = image or jobs.image_name(definition, os.environ)
            if verb is not None and command is None:
                command = ["python", "-m", definition.module, verb, *arguments]
        if image is None or command is None:
            raise ValueError("service: name a service and its verb, or an image and its command.")
        super().__init__(
            image=image,
            command=command,
            environment=dict(environment or {}),
            mem_limit=mem_limit or f"{limits.memory_mib}m",
            cpus=cpus or limits.cpus,
            **{"skip_on_exit_code": EXIT_NOTHING_TO_DO, **_FIXED, **kwargs},
        )
        for name, unset in _UNSUPPORTED.items():
            if getattr(self, name) not in (unset, [], {}):
                raise ValueError(f"{name}: jobs do not set this.")
        self.service = service
        self.single = single
        self._limits = limits
        self._job = f"{service} {verb}" if service and verb else f"The job {self.task_id}"
        self._runner: jobs.JobRunner | None = None
        self._last_line = ""
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """The job's result document.

        Raises:
            AirflowSkipException: there was nothing to do.
            AirflowFailException: the configuration is invalid, or a rule refuses, so a retry would not help.
            AirflowException: the job failed.
        """
        try:
            # Assigned before anything is started, so that on_kill can stop it.
            self._runner = choose_runner(self._connect)
            if self._killed:
                self._runner.kill()
            outcome = self._runner.run(self._spec(context), self._show)
        except jobs.JobRefused as refused:
            raise AirflowFailException(str(refused)) from None
        except jobs.JobFailed as failed:
            raise AirflowException(str(failed)) from None
        return self._result(outcome)

    def on_kill(self) -> None:
        """Stop the job, which also ends `execute`: Airflow only calls this method and waits."""
        self._killed = True
        if self._runner is not None:
            self._runner.kill()

    def _connect(self) -> APIClient:
        urls = [self.docker_url] if isinstance(self.docker_url, str) else self.docker_url
        for url in urls:
            if not _PROXY.fullmatch(url):
                raise jobs.JobRefused(
                    f"DOCKER_HOST={url}: name the docker-proxy as tcp://HOST:PORT, or have jobs run as "
                    "processes with JOB_RUNNER=process."
                )
        try:
            return self.cli
        except AirflowException as error:
            raise DockerException(str(error)) from None

    def _spec(self, context: Context) -> jobs.JobSpec:
        ti = context["ti"]
        definition = None if self.service is None else jobs.check_service(self.service)
        jobs.check_environment(self.environment)
        index = -1 if ti.map_index is None else ti.map_index
        labels = jobs.task_labels(ti.dag_id, ti.task_id, ti.run_id, index, ti.try_number)
        variables = self.unpack_environment_variables(self.env_file or "") | self.environment
        command = self.format_command(self.command) or []
        parts = (
            shlex.split(command)
            if isinstance(command, str)
            else [str(part) for part in command if part != ""]
        )
        return jobs.JobSpec(
            name=self.container_name or jobs.job_name(labels),
            labels=labels,
            image=self.image,
            command=tuple(part for part in parts if part),
            environment={
                **jobs.public_environment(os.environ),
                **({} if definition is None else definition.fixed),
                **{name: str(value) for name, value in variables.items()},
            },
            private=self._private_environment
            | ({} if definition is None else jobs.private_environment(definition, os.environ)),
            single=self.single,
            limits=replace(self._limits, memory_mib=-(-parse_bytes(self.mem_limit) // _MIB), cpus=self.cpus),
            network=self.network_mode,
        )

    def _show(self, line: str) -> None:
        if line.strip():
            self._last_line = line
        level, text = lines.readable(line)
        self.log.log(level, "%s", text)

    def _result(self, outcome: jobs.JobOutcome) -> dict[str, Any]:
        result, job = outcome.result or {}, self._job
        last_line = lines.sentence(self._last_line)
        if outcome.exit_code in self.skip_on_exit_code:
            raise AirflowSkipException(str(result.get("reason") or last_line or "There was nothing to do."))
        if outcome.exit_code == EXIT_CONFIGURATION:
            raise AirflowFailException(
                f"{job}: {last_line or 'its configuration is invalid, but it gave no reason.'}"
            )
        if outcome.exit_code != EXIT_DONE:
            reason = result.get("error") or last_line or "it gave no reason."
            # A rule or the gate would refuse a retry, too.
            failure = AirflowFailException if result.get("failure") == "refused" else AirflowException
            raise failure(f"{job} failed ({_exit_text(outcome.exit_code)}): {reason}")
        if outcome.result is None:
            raise AirflowException(f"{job} succeeded, but {outcome.problem}.")
        return outcome.result


def _exit_text(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
