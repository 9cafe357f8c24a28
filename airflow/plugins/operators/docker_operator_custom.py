"""FraudDockerOperator: the one operator for the platform's jobs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from config.job_results import EXIT_CONFIGURATION, EXIT_DONE, EXIT_NOTHING_TO_DO
from fraud_airflow import jobs, lines
from fraud_airflow.runners.selection import choose_runner

if TYPE_CHECKING:
    from airflow.sdk import Context

_LOCK_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")


class FraudDockerOperator(BaseOperator):
    """Runs `python -m fraud_<service> <verb> <arguments>` as JOB_RUNNER says, and returns its result.

    `environment` lies over the public variables of a job; it is shown in the web UI, so no secret belongs
    there. With `single` no two jobs of that name run at once. `execution_timeout` ends the job too.

    Raises:
        ValueError: at parse time; the message names the argument.
    """

    template_fields: Sequence[str] = ("arguments", "environment")
    template_fields_renderers = {"arguments": "json", "environment": "json"}  # noqa: RUF012
    ui_color = "#e6f2ff"

    def __init__(
        self,
        *,
        service: str,
        verb: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        single: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        jobs.check_service(service)
        jobs.check_environment(environment or {})
        if not isinstance(arguments, list | tuple):
            raise ValueError("arguments: write a list of strings, one an argument.")
        if single is not None and not _LOCK_NAME.fullmatch(single):
            raise ValueError(f"single: {single!r} is no name of a lock: use small letters, digits, - and _.")
        self.service = service
        self.verb = verb
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.single = single
        self._runner: jobs.JobRunner | None = None
        self._last_line = ""
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """The job's result document.

        Raises:
            AirflowSkipException: there was nothing to do.
            AirflowFailException: the configuration is wrong, so that another try is of no use.
            AirflowException: it failed.
        """
        try:
            # Known to on_kill before anything is started.
            self._runner = choose_runner()
            if self._killed:
                self._runner.kill()
            outcome = self._runner.run(self._spec(context), self._show)
        except jobs.JobRefused as refused:
            raise AirflowFailException(str(refused)) from None
        except jobs.JobFailed as failed:
            raise AirflowException(str(failed)) from None
        return self._result(outcome)

    def on_kill(self) -> None:
        """End the job with the task, and `execute` with it: Airflow itself only calls this, and goes on."""
        self._killed = True
        if self._runner is not None:
            self._runner.kill()

    def _spec(self, context: Context) -> jobs.JobSpec:
        service, ti = jobs.check_service(self.service), context["ti"]
        jobs.check_environment(self.environment)
        index = -1 if ti.map_index is None else ti.map_index
        labels = jobs.identify(ti.dag_id, ti.task_id, ti.run_id, index, ti.try_number)
        own = {name: str(value) for name, value in self.environment.items()}
        return jobs.JobSpec(
            name=jobs.job_name(labels),
            labels=labels,
            module=service.module,
            image=jobs.image_name(service, os.environ),
            arguments=(self.verb, *(str(argument) for argument in self.arguments)),
            environment={**jobs.public_environment(os.environ), **service.fixed, **own},
            private=jobs.private_environment(service, os.environ),
            single=self.single,
            limits=service.limits,
        )

    def _show(self, line: str) -> None:
        if line.strip():
            self._last_line = line
        level, text = lines.readable(line)
        self.log.log(level, "%s", text)

    def _result(self, outcome: jobs.JobOutcome) -> dict[str, Any]:
        said, job = outcome.result or {}, f"{self.service} {self.verb}"
        last = lines.sentence(self._last_line)
        if outcome.exit_code == EXIT_NOTHING_TO_DO:
            raise AirflowSkipException(str(said.get("reason") or last or "There was nothing to do."))
        if outcome.exit_code == EXIT_CONFIGURATION:
            raise AirflowFailException(
                f"{job}: {last or 'its configuration is wrong, and it did not say how.'}"
            )
        if outcome.exit_code != EXIT_DONE:
            why = said.get("error") or last or "it did not say why."
            raise AirflowException(f"{job} failed ({_ended(outcome.exit_code)}): {why}")
        if outcome.result is None:
            raise AirflowException(f"{job} ended well, but {outcome.problem}: nothing can be handed on.")
        return outcome.result


def _ended(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
