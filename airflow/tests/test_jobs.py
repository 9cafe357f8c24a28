"""The services' table, a job's environment and name."""

from __future__ import annotations

from unittest.mock import Mock
from urllib.parse import unquote, urlsplit

import pytest

from config import constants
from fraud_airflow import jobs
from fraud_airflow.runners.selection import choose_runner

WORKER = {
    "DATABASE_URL": "postgresql://worker:everything@db/x",
    "DATABASE_URL_PRODUCER": "postgresql://producer:one@db/x",
    "DATABASE_URL_STREAMING": "postgresql://streaming:two@db/x",
    "DATABASE_URL_TRAINER": "postgresql://trainer:three@db/x",
    "DATABASE_URL_API": "postgresql://api:four@db/x",
    "API_CLIENT_SECRET_STREAMING": "five",
    "API_KEY_ENCRYPTION_SECRET": "six",
    "RUNS_AWS_ACCESS_KEY_ID": "seven",
    "RUNS_AWS_SECRET_ACCESS_KEY": "eight",
    "MLFLOW_TRACKING_USERNAME": "release",
    "MLFLOW_TRACKING_PASSWORD": "ten",
    "MLFLOW_TRAINER_PASSWORD": "eleven",
    "MLFLOW_API_PASSWORD": "twelve",
    "AIRFLOW__CORE__FERNET_KEY": "nine",
    "LOG_LEVEL": "DEBUG",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:19092",
}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("producer", {"DATABASE_URL": "postgresql://producer:one@db/x"}),
        ("streaming", {"DATABASE_URL": "postgresql://streaming:two@db/x", "API_CLIENT_SECRET": "five"}),
        (
            "trainer",
            {
                "DATABASE_URL": "postgresql://trainer:three@db/x",
                "AWS_ACCESS_KEY_ID": "seven",
                "AWS_SECRET_ACCESS_KEY": "eight",
                "MLFLOW_TRACKING_PASSWORD": "eleven",
            },
        ),
        (
            "api",
            {
                "DATABASE_URL": "postgresql://api:four@db/x",
                "API_KEY_ENCRYPTION_SECRET": "six",
                "MLFLOW_TRACKING_PASSWORD": "twelve",
            },
        ),
    ],
)
def test_a_job_gets_the_secrets_of_its_service_and_no_others(service: str, expected: dict[str, str]) -> None:
    assert jobs.private_environment(jobs.SERVICES[service], WORKER) == expected


def test_a_missing_secret_is_named() -> None:
    worker = WORKER | {"API_CLIENT_SECRET_STREAMING": ""}
    with pytest.raises(jobs.JobRefused, match=r"^API_CLIENT_SECRET_STREAMING is not set"):
        jobs.private_environment(jobs.SERVICES["streaming"], worker)


PARTS = {"DB_HOST": "postgres", "DB_NAME": "fraud_detection", "API_CLIENT_SECRET_STREAMING": "five"}


@pytest.mark.parametrize("password", ["plain", "p@ss:w/rd", "100%$ä #?", "'\"\\"])
def test_an_address_is_made_of_its_parts_whatever_the_password(password: str) -> None:
    worker = PARTS | {"DB_PASSWORD_STREAMING": password}
    made = jobs.private_environment(jobs.SERVICES["streaming"], worker)["DATABASE_URL"]
    parts = urlsplit(made)
    assert (parts.scheme, parts.username, unquote(parts.password or "")) == (
        "postgresql",
        "fraud_streaming",
        password,
    )
    assert (parts.hostname, parts.port, parts.path) == ("postgres", 5432, "/fraud_detection")


def test_a_whole_address_wins_over_its_parts() -> None:
    worker = PARTS | WORKER | {"DB_PASSWORD_STREAMING": "other"}
    made = jobs.private_environment(jobs.SERVICES["streaming"], worker)
    assert made["DATABASE_URL"] == WORKER["DATABASE_URL_STREAMING"]


def test_where_there_are_parts_the_missing_password_is_named() -> None:
    with pytest.raises(jobs.JobRefused, match=r"^DB_PASSWORD_STREAMING is not set"):
        jobs.private_environment(jobs.SERVICES["streaming"], PARTS)


def test_the_public_environment_holds_no_secret_and_nothing_of_airflow() -> None:
    public = jobs.public_environment(WORKER)
    assert public["LOG_LEVEL"] == "DEBUG"
    assert public["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:19092"
    assert set(public) <= set(jobs.PUBLIC_VARIABLES)
    secrets = {value for name, value in WORKER.items() if name not in jobs.PUBLIC_VARIABLES}
    assert not secrets & set(public.values())


def test_hosts_default_to_those_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(constants.ENV_VARS, "API_URL", "http://api:8000")
    assert jobs.public_environment({})["API_URL"] == "http://api:8000"
    assert "S3_ENDPOINT_URL" not in jobs.public_environment({})


def test_no_public_variable_is_private_or_reserved() -> None:
    jobs.check_environment(dict.fromkeys(jobs.PUBLIC_VARIABLES, "x"))


@pytest.mark.parametrize(
    "name",
    ["DATABASE_URL", "API_CLIENT_SECRET", "API_CLIENT_ID", "AWS_SECRET_ACCESS_KEY", "RESULT_PATH", "PATH"],
)
def test_the_platforms_own_variables_cannot_be_set_by_a_dag(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^environment: {name} is set by the platform"):
        jobs.check_environment({name: "mine"})


@pytest.mark.parametrize("name", ["SMTP_PASSWORD", "MY_TOKEN", "SLACK_SECRET"])
def test_a_secret_is_not_taken_from_a_dag(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^environment: {name} looks like a secret"):
        jobs.check_environment({name: "{{ var.value.x }}"})


@pytest.mark.parametrize("name", ["", "lower", "WITH SPACE", "A=B", 5])
def test_a_name_no_variable_can_have_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"^environment: .* is not a variable name"):
        jobs.check_environment({name: "x"})


def test_a_service_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(
        ValueError,
        match="no service 'batches'; services are producer, streaming, trainer, batch, monitor, rollout, "
        "feedback, api",
    ):
        jobs.check_service("batches")


def test_a_jobs_name_is_of_one_try_and_fit_for_a_container() -> None:
    def name(**changed: object) -> str:
        given = {"dag_id": "d", "task_id": "t" * 200, "run_id": "scheduled__2026-11-21T00:00:00+00:00"}
        return jobs.job_name(jobs.task_labels(**(given | {"map_index": -1, "try_number": 1} | changed)))  # type: ignore[arg-type]

    others = [
        name(run_id="manual"),
        name(map_index=2),
        name(try_number=2),
        name(task_id="other"),
        name(dag_id="e"),
    ]
    assert name() == name()
    assert len({name(), *others}) == 6
    assert len(name()) <= 100
    assert set(name()) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def test_secrets_do_not_show_in_a_spec() -> None:
    spec = jobs.JobSpec("n", {}, "i", ("m",), {}, private={"DATABASE_URL": "geheim"})
    assert "geheim" not in repr(spec)


def test_a_runner_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_RUNNER", "kubernetes")
    with pytest.raises(jobs.JobRefused, match=r"^JOB_RUNNER=kubernetes: .*docker or process"):
        choose_runner(Mock())


def test_containers_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from fraud_airflow.runners.docker_runner import DockerRunner

    monkeypatch.delenv("JOB_RUNNER", raising=False)
    assert isinstance(choose_runner(Mock()), DockerRunner)


def test_an_image_is_named_as_the_installation_says() -> None:
    trainer = jobs.SERVICES["trainer"]
    assert jobs.image_name(trainer, {}) == "fraud-detection/ml:local"
    worker = {"JOB_IMAGE_PREFIX": "registry.site/fraud-detection/", "JOB_IMAGE_TAG": "1.4"}
    assert jobs.image_name(trainer, worker) == "registry.site/fraud-detection/ml:1.4"


def test_jobs_may_reach_the_api_elsewhere_than_the_worker() -> None:
    """Through the gateway, which gives a release over HTTP its share of their requests."""
    worker = {"API_URL": "http://api:8000"}
    assert jobs.public_environment(worker)["API_URL"] == "http://api:8000"
    through = jobs.public_environment(worker | {"JOB_API_URL": "http://gateway:8000"})
    assert through["API_URL"] == "http://gateway:8000"
    assert "JOB_API_URL" not in through
