"""What MLflow's server is started with."""

import os
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import pytest

from fraud_mlflow.__main__ import Unset, arguments, environment

GIVEN = {
    "DB_HOST": "postgres",
    "MLFLOW_DB_PASSWORD": "p@ss/w:rd %#",
    "S3_ENDPOINT_URL": "http://objectstore:8333",
    "AWS_ACCESS_KEY_ID": "fraud-mlflow",
    "AWS_SECRET_ACCESS_KEY": "key of the bucket",
}


def test_a_password_of_any_characters_is_part_of_the_address() -> None:
    parts = urlsplit(environment(GIVEN)["MLFLOW_BACKEND_STORE_URI"])
    assert unquote(str(parts.password)) == GIVEN["MLFLOW_DB_PASSWORD"]
    assert (parts.username, parts.hostname, parts.port, parts.path) == ("mlflow", "postgres", 5432, "/mlflow")
    whole = {"MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://elsewhere/x"}
    assert environment(GIVEN | whole)["MLFLOW_BACKEND_STORE_URI"].endswith("elsewhere/x")


def test_no_secret_is_an_argument() -> None:
    said = " ".join(arguments(environment(GIVEN)))
    assert not [
        value for name, value in GIVEN.items() if "PASSWORD" in name or "SECRET" in name if value in said
    ]
    assert "postgres" not in said


def test_it_is_reached_by_its_names_and_by_those_one_adds() -> None:
    def hosts(**more: str) -> list[str]:
        options = dict(option.partition("=")[::2] for option in arguments(GIVEN | more) if "=" in option)
        return options["--allowed-hosts"].split(",")

    assert hosts() == ["mlflow:5000", "localhost:5000", "127.0.0.1:5000"]
    assert hosts(MLFLOW_ALLOWED_HOSTS="localhost:5000,localhost:5100")[3:] == ["localhost:5100"]
    assert hosts(MLFLOW_PORT="5200") == ["mlflow:5200", "localhost:5200", "127.0.0.1:5200"]


def test_what_is_dangerous_stays_off_whatever_the_environment_says() -> None:
    wished = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}
    made = environment(GIVEN | wished)
    assert [made[name] for name in wished] == ["false", "false"]


@pytest.mark.parametrize("name", sorted(GIVEN.keys() - {"DB_HOST"}))
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(Unset, match=name):
        environment({**GIVEN, name: ""})


def test_the_program_ends_with_the_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fraud_mlflow"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr == "configuration: AWS_ACCESS_KEY_ID is not set: set it in .env or in the environment.\n"
    )
