"""Airflow with its servers, started once for all tests of the DAGs that one worker runs.

It stops after the last of them, because even an idle Airflow uses CPU time that later tests need.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.airflow_metadata import Metadata, prepared_airflow, running_postgres
from tests.support.airflow_platform import platform

__all__ = ["empty_metadata", "platform"]


@pytest.fixture(scope="module")
def empty_metadata() -> Iterator[Metadata]:
    """A configured Airflow whose database has no tables yet."""
    with running_postgres() as (stack, passwords, _):
        yield Metadata(prepared_airflow(stack, passwords))
