"""What a run of the training DAG may be given, and which way it goes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError

from config.job_results.trainer import DecisionResult
from fraud_airflow import training

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EMPTY = dict.fromkeys(training.PARAMS) | {"force": False}
FILE = "s3://fraud-runs/datasets/rows.csv"


@pytest.mark.parametrize(
    ("conf", "problem"),
    [
        ({}, None),
        ({"force": True}, None),
        ({"as_of": "2026-02-01T00:00:00Z", "data_from": "2026-01-01T00:00:00+01:00"}, None),
        ({"file": FILE, "file_start": "2026-01-01T00:00:00Z"}, None),
        ({"forced": True}, "The run was given forced: it takes force, as_of, data_from, "),
        ({"as_of": "yesterday"}, "as_of is not a time with a zone"),
        ({"as_of": "2026-02-01T00:00:00"}, "as_of is not a time with a zone"),
        ({"data_to": "2026-03-01T00:00:01Z"}, "data_to is in the future"),
        (
            {"data_from": "2026-02-01T00:00:00Z", "data_to": "2026-02-01T00:00:00Z"},
            "data_from must be ",
        ),
        (
            {"file": FILE, "as_of": "2026-02-01T00:00:00Z"},
            "as_of is about the labels of the platform",
        ),
        ({"file": FILE, "data_to": "2026-02-01T00:00:00Z"}, "data_to and file name different sources"),
        ({"kafka_from": "0", "kafka_to": "2026-02-01T00:00:00Z", "as_of": "2026-02-01T00:00:00Z"}, None),
        ({"kafka_from": "-1"}, "kafka_from is not a time with a zone, or an offset"),
        ({"kafka_from": "0", "data_to": "2026-02-01T00:00:00Z"}, "data_to and kafka_from name different"),
        ({"file_start": "2026-02-01T00:00:00Z"}, "file_start is for a file only"),
    ],
)
def test_what_a_run_is_given_is_checked_before_a_job_starts(
    conf: dict[str, Any], problem: str | None
) -> None:
    said = training.conf_problem(conf, EMPTY | conf, NOW)
    assert (said is None) if problem is None else (said or "").startswith(problem)
    context: Any = {"dag_run": SimpleNamespace(conf=conf), "params": EMPTY | conf}
    if problem is not None and "future" not in problem:
        with pytest.raises(AirflowFailException, match=problem):
            training.check_conf(context)
    elif problem is None:
        training.check_conf(context)


@pytest.mark.parametrize(
    "given", [{"force": "yes"}, {"as_of": 7}, {"file": "/etc/passwd"}, {"file": "s3://other/rows.csv"}]
)
def test_airflow_itself_refuses_other_types(given: dict[str, Any]) -> None:
    params = ParamsDict(training.PARAMS)
    params.validate()
    with pytest.raises(ParamValidationError):
        params.update(given)
        params.validate()


def test_every_parameter_has_a_description() -> None:
    for name, param in training.PARAMS.items():
        assert param.description, name
        assert param.schema["title"], name


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
