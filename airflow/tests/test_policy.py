"""A run that would wait for its date is refused while it is being made."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow import settings
from airflow_local_settings import DatedAhead, task_instance_mutation_hook

NAMES = ("logical_date", "run_after")
LOADED = """
import sys
sys.argv = ["airflow", *sys.argv[1:]]
import airflow
modules = ("airflow.providers.docker.operators.docker", "operators.docker_operator_custom")
print("LOADED", *(name in sys.modules for name in modules))
"""


def run(**changes: Any) -> Any:
    now = datetime.now(UTC)
    return SimpleNamespace(
        **{"state": "queued", "clear_number": 0, "logical_date": None, "run_after": now} | changes
    )


def moment(**ahead: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ahead)


def test_airflow_has_taken_the_policy_up() -> None:
    hook: Any = settings.task_instance_mutation_hook
    assert hook.is_noop is False
    with pytest.raises(DatedAhead):
        hook(None, dag_run=run(logical_date=moment(hours=1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ahead", [{"minutes": 1}, {"hours": 1}, {"days": 3650}])
def test_a_date_ahead_is_refused_and_named(name: str, ahead: dict[str, float]) -> None:
    date = moment(**ahead)
    with pytest.raises(
        ValueError, match=f"^{name} is {date.isoformat().replace('+', '.')}, .*future"
    ) as told:
        task_instance_mutation_hook(None, run(**{name: date}))
    assert "set a date that has passed" in str(told.value)


@pytest.mark.parametrize(
    "one",
    [
        None,
        run(),
        run(logical_date=datetime(1999, 1, 1, tzinfo=UTC)),
        run(logical_date=moment(seconds=5)),  # a clock that is a little fast
        run(state="running", logical_date=moment(hours=1)),  # `dags test`
        run(clear_number=1, logical_date=moment(hours=1)),
    ],
)
def test_every_other_run_is_left_alone(one: Any) -> None:
    task_instance_mutation_hook(None, one)


@pytest.mark.parametrize(
    ("command", "loaded"),
    [
        ("scheduler --skip-serve-logs", "True True"),
        ("celery worker", "True True"),
        ("dag-processor", "True False"),
        ("dags list", "False False"),
    ],
)
def test_what_forks_has_loaded_what_its_children_import(command: str, loaded: str) -> None:
    asked = [sys.executable, "-c", LOADED, *command.split()]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert f"LOADED {loaded}\n" in done.stdout
