"""Selects the runner of an installation."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fraud_airflow.jobs import JobRefused, JobRunner

if TYPE_CHECKING:
    from docker import APIClient

RUNNER_VARIABLE: Final = "JOB_RUNNER"


def choose_runner(connect: Callable[[], APIClient]) -> JobRunner:
    """The runner that JOB_RUNNER names, `docker` by default, whose client `connect` gives.

    Raises:
        JobRefused: there is no such runner, or it is not configured.
    """
    chosen = os.environ.get(RUNNER_VARIABLE) or "docker"
    if chosen == "docker":
        from fraud_airflow.runners.docker_api import DockerClient
        from fraud_airflow.runners.docker_runner import DockerRunner

        return DockerRunner(DockerClient(connect))
    if chosen == "process":
        from fraud_airflow.runners import process_runner

        return process_runner.from_environment(os.environ)
    raise JobRefused(f"{RUNNER_VARIABLE}={chosen}: set docker or process.")
