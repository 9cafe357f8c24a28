"""What a run of batch prediction may be given, what its job is told, and what is logged of it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError

from fraud_airflow import batch
from fraud_airflow.conf import conf_problem

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FROM, TO = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
FILE, OUTPUT = "s3://fraud-runs/datasets/rows.csv", "s3://fraud-runs/scores/rows.parquet"
DEFAULTS = {name: param.value for name, param in batch.PARAMS.items()}


@pytest.mark.parametrize(
    ("conf", "problem"),
    [
        ({"data_from": FROM}, None),
        ({"data_from": FROM, "data_to": TO, "model": "7", "output": OUTPUT}, None),
        ({"file": FILE, "output": OUTPUT, "engine": "onnx"}, None),
        ({}, "data_from is missing: give it, or file."),
        ({"data_to": TO}, "data_from is missing: give it, or file."),
        ({"data_from": FROM, "file": FILE, "output": OUTPUT}, "data_from and file name different sources"),
        ({"file": FILE}, "file is given without output"),
        ({"data_from": TO, "data_to": FROM}, "data_from must be before data_to"),
        ({"data_from": FROM, "model": "best"}, "model is neither a version nor an alias"),
        ({"data_from": FROM, "output": "/etc/x.csv"}, "output is not a file that jobs can read"),
        ({"data_from": FROM, "force": True}, "The run was given force, which this DAG does not read"),
    ],
)
def test_what_a_run_is_given_is_checked_before_it_is_created(
    conf: dict[str, Any], problem: str | None
) -> None:
    schemas = {name: param.schema for name, param in batch.PARAMS.items()}
    said = conf_problem(conf, schemas, DEFAULTS | conf, NOW)
    assert (said is None) if problem is None else (said or "").startswith(problem)


def test_airflow_itself_refuses_other_types() -> None:
    for given in ({"engine": "magic"}, {"data_from": 7}, {"model": True}):
        params = ParamsDict(batch.PARAMS)
        params.validate()
        with pytest.raises(ParamValidationError):
            params.update(given)
            params.validate()


def render(user: str | None, **params: Any) -> list[str]:
    task = batch.scoring("a_task")
    context: Any = {
        "dag": SimpleNamespace(dag_id="00_batch_prediction"),
        "run_id": "manual__1",
        "dag_run": SimpleNamespace(triggering_user_name=user),
        "params": DEFAULTS | params,
    }
    rendered: list[str] = task.render_template(task.command, context)
    return [part for part in rendered[3:] if part]


def test_the_job_is_told_who_asked_for_what() -> None:
    run = ["score", "--dag=00_batch_prediction", "--run-id=manual__1"]
    assert render("ada", data_from=FROM, data_to="{{ run_id }}") == [
        *(*run, "--requested-by=ada", f"--from={FROM}", "--to={{ run_id }}"),
        *("--model=champion", "--engine=xgboost"),
    ]
    assert render(None, file=FILE, output=OUTPUT, model="7") == [
        *(*run, "--requested-by=airflow", f"--input={FILE}", "--model=7", f"--output={OUTPUT}"),
        "--engine=xgboost",
    ]


def test_the_last_task_says_what_was_scored(caplog: pytest.LogCaptureFixture) -> None:
    result: Any = {
        "rows": 1000,
        "scored": 990,
        "refused": 10,
        "rows_per_second": 5000,
        "model_version": "7",
        "engine": "xgboost-3.2.0",
        "decisions": {"approve": 900, "block": 90},
        "output": OUTPUT,
        "report": "s3://fraud-runs/runs/x/report.html",
        "rejects": "s3://fraud-runs/scores/rows.rejects.csv",
    }
    with caplog.at_level(logging.INFO):
        batch.completion(result)
    assert caplog.messages[0] == (
        "990 of 1,000 transactions scored by version 7 (xgboost-3.2.0), 10 refused, 5,000 rows a second."
    )
    assert caplog.messages[-1] == "Refused rows and why: s3://fraud-runs/scores/rows.rejects.csv."
