"""How tests are distributed among workers, and the environment of their processes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

from config.constants import PROCESS_ENVIRONMENT

# A shell makes background commands ignore SIGINT, and the processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The tests use MLflow themselves, and nothing about a test run may be reported to its vendor.
os.environ |= {name: PROCESS_ENVIRONMENT[name] for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
# As in the jobs themselves: threads that wait by turning round take the processor that others need. With four
# workers on two cores, three small trainings in a worker took seven minutes instead of half of one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# XGBoost imports scikit-learn where it is installed, which takes each worker seconds; the services do not
# have it. A test that compares with scikit-learn imports it itself.
sys.modules["sklearn"] = None  # type: ignore[assignment]
importlib.import_module("xgboost")
del sys.modules["sklearn"]


# The fixtures that take longest to start: one worker runs all files that name a fixture of the same group.
SHARED: Final = {
    "mlflow_uri": "MLflow",
    "any_kafka": "Apache Kafka",
    "apache_kafka": "Apache Kafka",
}
LARGEST: Final = ("tests/dags", "MLflow")


class ShareServers(LoadFileScheduling):  # type: ignore[misc]
    """Runs tests that share servers in one worker: those of a file, or of several if the servers are large.

    All tests of DAGs share one Airflow, which is as large as all other servers together.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope(self.config.rootpath, nodeid.partition("::")[0])


@cache
def scope(root: Path, file: str) -> str:
    """The group of tests that this file belongs to; one worker runs the whole group."""
    folder = file.rpartition("/")[0]
    if folder == "tests/dags":
        return folder
    if folder != "tests/integration":
        return file
    source = (root / file).read_text(encoding="utf-8")
    return next((group for fixture, group in SHARED.items() if fixture in source), file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The largest groups come first, so that no worker is left alone with one at the end.

    The others then also start their servers in fewer workers: the fault tests, which follow, in one.
    """
    groups = {name: number for number, name in enumerate(LARGEST)}
    items.sort(
        key=lambda item: groups.get(scope(config.rootpath, item.nodeid.partition("::")[0]), len(groups))
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ShareServers:
    return ShareServers(config, log)
