"""Airflow with its servers, started once for all tests of the DAGs that one worker runs.

It ends with the last of them: idle, Airflow still takes a processor's time from those that follow.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.airflow_metadata import Metadata, prepared_airflow, running_postgres
from tests.support.airflow_platform import AirflowPlatform, running_platform


@pytest.fixture(scope="package")
def platform() -> Iterator[AirflowPlatform]:
    with running_platform() as running:
        yield running


@pytest.fixture(scope="module")
def empty_metadata() -> Iterator[Metadata]:
    """Airflow configured, and its database without a table."""
    with running_postgres() as (stack, passwords, _):
        yield Metadata(prepared_airflow(stack, passwords))
