"""How the tests are shared out among workers, and what their processes find in their environment."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from config.constants import PROCESS_ENVIRONMENT

# A shell has what it runs in the background ignore SIGINT, and the processes that tests start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# MLflow is also used by the tests themselves; nothing of them may be reported to its makers.
os.environ |= {name: PROCESS_ENVIRONMENT[name] for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")}


class OneAirflow(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests share servers, so one worker runs them; those of DAGs share one Airflow, which is as
    large as all other servers together.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder == "tests/dags" else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneAirflow:
    return OneAirflow(config, log)
