"""What a run may be given: the parameters of a form, and the check that every run passes when it is created."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from airflow_local_settings import ConfRefused, task_instance_mutation_hook
from fraud_airflow import parameters, training
from fraud_airflow.conf import conf_problem

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FILE = "s3://fraud-runs/datasets/rows.csv"
PAST, LATER = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
ANY = {
    "from": parameters.moment("From", "Of what is scored.", before="to", unless="path"),
    "to": parameters.moment("To", "Of what is scored."),
    "path": parameters.file("File", "What is scored."),
    "version": parameters.model("Model", "What scores."),
    "both": parameters.text("Both", "Two that go together.", needs="path"),
    "all": parameters.flag("All", "Whether all is meant."),
}


def problem(conf: dict[str, Any], params: dict[str, Param]) -> str | None:
    values = {name: conf.get(name, param.value) for name, param in params.items()}
    return conf_problem(conf, {name: param.schema for name, param in params.items()}, values, NOW)


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, None),
        ({"force": True}, None),
        ({"as_of": LATER, "data_from": "2026-01-01T00:00:00+01:00"}, None),
        ({"file": FILE, "file_start": PAST}, None),
        ({"forced": True}, "The run was given forced, which this DAG does not read: it takes force, as_of, "),
        ({"as_of": "yesterday"}, "as_of is not a time with a zone: write one such as 2026-"),
        ({"as_of": "2026-02-01T00:00:00"}, "as_of is not a time with a zone"),
        ({"data_to": "2026-03-01T00:00:01Z"}, "data_to is in the future"),
        ({"data_from": LATER, "data_to": LATER}, "data_from must be before data_to."),
        ({"file": FILE, "as_of": LATER}, "as_of and file exclude each other"),
        ({"file": FILE, "data_to": LATER}, "data_to and file name different sources"),
        ({"kafka_from": "0", "kafka_to": LATER, "as_of": LATER}, None),
        ({"kafka_from": "-1"}, "kafka_from is not a time with a zone, or an offset"),
        ({"kafka_from": "0", "data_to": LATER}, "data_to and kafka_from name different"),
        ({"file_start": LATER}, "file_start is given without file"),
        ({"file": "/etc/passwd"}, "file is not a file that jobs can read: write s3://fraud-runs/"),
        ({"file": "s3://other/rows.csv"}, "file is not a file that jobs can read"),
        ({"file": "s3://fraud-runs/../other/rows.csv"}, "file is not a file that jobs can read"),
    ],
)
def test_a_training_is_refused_what_it_cannot_be_given(conf: dict[str, Any], expected: str | None) -> None:
    found = problem(conf, training.PARAMS)
    assert (found is None) if expected is None else (found or "").startswith(expected)


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({"from": PAST}, None),
        ({"path": FILE, "version": "12"}, None),
        ({"path": FILE, "version": "previous", "both": "x", "all": True}, None),
        ({}, "from is missing: give it, or path."),
        (
            {"path": FILE, "version": "0"},
            "version is neither a version nor an alias: write a number such as 3",
        ),
        ({"path": FILE, "version": "champion; rm"}, "version is neither a version nor an alias"),
        ({"from": PAST, "both": "x"}, "both is given without path"),
        ({"from": LATER, "to": PAST}, "from must be before to."),
    ],
)
def test_the_rules_that_other_dags_use(conf: dict[str, Any], expected: str | None) -> None:
    found = problem(conf, ANY)
    assert (found is None) if expected is None else (found or "").startswith(expected)


def test_a_dag_without_parameters_takes_none() -> None:
    expected = "The run was given count, which this DAG does not read: it takes no parameters."
    assert problem({"count": 3}, {}) == expected


@pytest.mark.parametrize("given", [{"force": "yes"}, {"as_of": 7}, {"file": ["x"]}])
def test_airflow_itself_refuses_other_types(given: dict[str, Any]) -> None:
    params = ParamsDict(training.PARAMS)
    params.validate()
    with pytest.raises(ParamValidationError):
        params.update(given)
        params.validate()


def run(dag: Any, conf: dict[str, Any] | None, **changes: Any) -> Any:
    plain = {"state": "queued", "clear_number": 0, "logical_date": None, "run_after": None}
    return SimpleNamespace(**plain | {"run_type": "manual", "dag": dag, "conf": conf} | changes)


@pytest.fixture(scope="module")
def serialised() -> Any:
    """A DAG as the API server knows it, without its file."""
    with DAG("any", params=ANY) as dag:
        pass
    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


def test_the_policy_refuses_a_run_while_it_is_created(serialised: Any) -> None:
    with pytest.raises(ConfRefused, match="given forced, which this DAG does not read: it takes from, to, "):
        task_instance_mutation_hook(None, run(serialised, {"forced": True}))
    with pytest.raises(ConfRefused, match="from is missing"):
        task_instance_mutation_hook(None, run(serialised, None))
    tested = {"state": "running", "triggered_by": SimpleNamespace(value="test")}
    with pytest.raises(ConfRefused, match="path is not a file"):
        task_instance_mutation_hook(None, run(serialised, {"path": "x"}, **tested))


@pytest.mark.parametrize(
    ("conf", "changes"),
    [
        ({"from": PAST}, {}),
        ({"forced": True}, {"state": "running"}),
        ({"forced": True}, {"clear_number": 1}),
        (None, {"run_type": "scheduled"}),
    ],
)
def test_the_policy_leaves_every_other_run_alone(serialised: Any, conf: Any, changes: dict[str, Any]) -> None:
    task_instance_mutation_hook(None, run(serialised, conf, **changes))
