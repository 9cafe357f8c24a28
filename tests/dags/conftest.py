"""Airflow with its servers, started once for all tests of the DAGs that one worker runs.

It stops after the last of them, because even an idle Airflow uses CPU time that later tests need. For the
same reason the tests that need only its database come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from psycopg2 import errors

from config import constants
from fraud_db.bootstrap import clone_database
from tests.support.airflow_metadata import METADATA, FirstStart, Metadata
from tests.support.airflow_platform import (
    PATIENCE_S,
    AirflowPlatform,
    PreparedPlatform,
    prepared_platform,
    running_mlflow,
    running_platform,
)
from tests.support.waiting import eventually


@pytest.fixture(scope="package")
def prepared() -> Iterator[PreparedPlatform]:
    with prepared_platform() as configured:
        yield configured


@pytest.fixture(scope="package")
def first_start(prepared: PreparedPlatform) -> FirstStart:
    server, postgres = prepared.metadata.server, prepared.stack.postgres
    with pytest.raises(errors.UndefinedTable):
        prepared.metadata.rows("SELECT 1 FROM connection")
    done = prepared.metadata.initialise()
    assert done.returncode == 0, done.stderr[-3000:]

    def copied(name: str) -> Metadata:
        clone_database(postgres.url(), METADATA, name, METADATA)
        url = postgres.url(METADATA, prepared.passwords.airflow, name)
        return Metadata(replace(server, database_url=url))

    return FirstStart(done, copied("to_initialise"), copied("to_run"))


@pytest.fixture(scope="package")
def mlflow_uri(prepared: PreparedPlatform) -> Iterator[str]:
    """Address of MLflow."""
    with running_mlflow(prepared.stack) as uri:
        yield uri


@pytest.fixture(scope="package")
def platform(prepared: PreparedPlatform, first_start: FirstStart) -> Iterator[AirflowPlatform]:
    """The platform for all tests of this folder. The sub-minute DAGs are paused: otherwise the watch alerts
    that they do not run."""
    assert first_start.done.returncode == 0
    with running_platform(prepared) as running:
        for dag_id in constants.DAGS_SUB_MINUTE:
            assert eventually(partial(running.airflow.known, dag_id), PATIENCE_S), (
                running.airflow.import_errors()
            )
            running.airflow.pause(dag_id, paused=True)
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    positions = [number for number, item in enumerate(items) if folder in item.path.parents]
    own = sorted((items[number] for number in positions), key=_needs_the_platform)
    for number, item in zip(positions, own, strict=True):
        items[number] = item


def _needs_the_platform(item: pytest.Item) -> bool:
    return "platform" in getattr(item, "fixturenames", ())
