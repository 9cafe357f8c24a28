"""Which way a run of the training DAG goes, and what its steps are told."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from config.job_results.trainer import DecisionResult
from fraud_airflow import training

EMPTY = dict.fromkeys(training.PARAMS) | {"force": False}
FILE = "s3://fraud-runs/datasets/rows.csv"


@pytest.mark.parametrize(("retrain", "task"), [(True, "load_training_data"), (False, "skip_training")])
def test_the_decision_chooses_the_branch_and_is_logged(
    retrain: bool, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    decision: Any = DecisionResult(retrain=retrain, reason="Retrain: it was asked for.")  # type: ignore[typeddict-item]
    with caplog.at_level(logging.INFO):
        assert training.branch(decision) == task
    assert caplog.messages == ["Retrain: it was asked for."]


def render(verb: str, **params: Any) -> list[str]:
    """The arguments of a verb as Airflow renders them."""
    task = training.step("a_task", verb)
    context: Any = {"dag": SimpleNamespace(dag_id="01_training_pipeline"), "run_id": "manual__1"}
    rendered: list[str] = task.render_template(task.command, context | {"params": EMPTY | params})
    return [part for part in rendered[4:] if part]


RUN = ["--dag=01_training_pipeline", "--run-id=manual__1"]


@pytest.mark.parametrize(
    ("verb", "params", "options"),
    [
        ("decide", {}, []),
        ("decide", {"force": True}, ["--force"]),
        ("load", {"force": True}, []),
        (
            "load",
            {"as_of": "2026-02-01T00:00:00Z", "data_from": "2026-01-01T00:00:00Z", "data_to": "x y"},
            ["--as-of=2026-02-01T00:00:00Z", "--from=2026-01-01T00:00:00Z", "--to=x y"],
        ),
        (
            "load",
            {"file": FILE, "file_start": "2026-01-01T00:00:00Z"},
            [f"--file={FILE}", "--file-start=2026-01-01T00:00:00Z"],
        ),
        ("load", {"kafka_from": "0", "kafka_to": "99"}, ["--kafka-from=0", "--kafka-to=99"]),
        ("register", {"force": True, "file": FILE}, []),
    ],
)
def test_every_step_is_told_its_run_and_the_options_it_takes(
    verb: str, params: dict[str, Any], options: list[str]
) -> None:
    assert render(verb, **params) == RUN + options


def test_a_value_is_not_rendered_again() -> None:
    assert render("load", data_to="{{ run_id }}") == [*RUN, "--to={{ run_id }}"]


@pytest.mark.parametrize(("awaits", "task"), [(True, "trigger_canary_release"), (False, "no_release")])
def test_a_version_that_awaits_its_release_gets_one(
    awaits: bool, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    result: Any = {"register": {"version": "7", "promotion": "Challenger.", "awaits_release": awaits}}
    with caplog.at_level(logging.INFO):
        assert training.release_branch(result) == task
    assert caplog.messages == ["Version 7: Challenger."]
