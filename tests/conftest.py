"""How the tests are shared out among workers, and what their processes find in their environment."""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

from config.constants import PROCESS_ENVIRONMENT

# A shell has what it runs in the background ignore SIGINT, and the processes that tests start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# MLflow is also used by the tests themselves; nothing of them may be reported to its makers.
os.environ |= {name: PROCESS_ENVIRONMENT[name] for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")}


# What takes longest to start for the integration tests, by fixture: one worker runs all files that name one.
SHARED: Final = {
    "airflow_metadata": "MLflow and Airflow",
    "mlflow_uri": "MLflow and Airflow",
    "any_kafka": "Apache Kafka",
    "apache_kafka": "Apache Kafka",
}


class ShareServers(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests share servers, so one worker runs them, and several files' where the servers are large;
    those of DAGs share one Airflow, which is as large as all other servers together.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope(self.config.rootpath, nodeid.partition("::")[0])


@cache
def scope(root: Path, file: str) -> str:
    """What one worker runs of which this file is a part."""
    folder = file.rpartition("/")[0]
    if folder == "tests/dags":
        return folder
    if folder != "tests/integration":
        return file
    source = (root / file).read_text(encoding="utf-8")
    return next((group for fixture, group in SHARED.items() if fixture in source), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ShareServers:
    return ShareServers(config, log)
