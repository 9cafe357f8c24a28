"""Which runner an installation has."""

from __future__ import annotations

import os
from typing import Final

from fraud_airflow.jobs import JobRefused, JobRunner

RUNNER_VARIABLE: Final = "JOB_RUNNER"


def choose_runner() -> JobRunner:
    """The runner that JOB_RUNNER names, `docker` by default.

    Raises:
        JobRefused: there is no such runner, or it is not configured.
    """
    chosen = os.environ.get(RUNNER_VARIABLE) or "docker"
    if chosen == "docker":
        from fraud_airflow.runners import docker_runner

        return docker_runner.from_environment(os.environ)
    if chosen == "process":
        from fraud_airflow.runners import process_runner

        return process_runner.from_environment(os.environ)
    raise JobRefused(f"{RUNNER_VARIABLE}={chosen}: jobs run as docker or process: set one of them.")
