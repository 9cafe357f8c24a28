"""What a command of Airflow finds in its environment, and what a process must not be given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import make_url

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import environment
from environment import BROKER, DATABASE, RESULTS, complete_environment

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PASSWORDS = ["plain", "p@ss:w/rd", "a,b;c", "100%41 #?&=", "$HOME ~ $$", "'\"\\", "gäste", " spaces "]
SCHEDULER = {"DB_HOST": "postgres", BROKER: "redis://redis:6379/0"}


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where secrets are."""
    monkeypatch.setattr(environment, "_SECRETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("password", PASSWORDS)
def test_an_address_holds_any_password(password: str) -> None:
    environ = SCHEDULER | {"AIRFLOW_DB_PASSWORD": password, "REDIS_PASSWORD": password}
    complete_environment(environ)
    database = make_url(environ[DATABASE])
    assert (database.username, database.password) == ("airflow", password)
    assert (database.host, database.port, database.database) == ("postgres", 5432, "airflow")
    for name, path in ((BROKER, "/0"), (RESULTS, "/1")):
        address = urlsplit(environ[name])
        assert (address.hostname, address.port, address.path) == ("redis", 6379, path)
        assert unquote(address.password or "") == password
        # Airflow expands what it reads of its environment.
        assert os.path.expandvars(environ[name]) == environ[name]


def test_a_worker_gets_no_address_of_the_metadata() -> None:
    environ = SCHEDULER | {"REDIS_PASSWORD": "p", "DB_PASSWORD": "of the reader", "DB_USER": "fraud_readonly"}
    complete_environment(environ)
    assert DATABASE not in environ


def test_what_is_set_stays() -> None:
    given = {
        DATABASE: "postgresql+psycopg2://other:own@elsewhere/other",
        BROKER: "redis://:own@elsewhere:6380/3",
        RESULTS: "redis://:own@elsewhere:6380/4",
    }
    environ = given | {"DB_HOST": "postgres", "AIRFLOW_DB_PASSWORD": "p", "REDIS_PASSWORD": "p"}
    complete_environment(environ)
    assert {name: environ[name] for name in given} == given


def test_an_address_that_is_set_without_a_password_gets_it() -> None:
    environ = {DATABASE: "postgresql+psycopg2://role@pooler:6432/own", "AIRFLOW_DB_PASSWORD": "p@"}
    complete_environment(environ)
    assert environ[DATABASE] == "postgresql+psycopg2://role:p%40@pooler:6432/own"


def test_twice_is_as_once() -> None:
    environ = SCHEDULER | {"AIRFLOW_DB_PASSWORD": "p@", "REDIS_PASSWORD": "%"}
    complete_environment(environ)
    once = dict(environ)
    complete_environment(environ)
    assert environ == once


def test_a_secret_of_a_file_is_taken_without_its_last_newline(secrets: Path) -> None:
    (secrets / "redis").write_text("p@ss\n", encoding="utf-8")
    environ = SCHEDULER | {"REDIS_PASSWORD_FILE": str(secrets / "redis"), "LOG_FILE": "logs/fraud.log"}
    environ["REDIS_PASSWORD"] = ""
    complete_environment(environ)
    assert environ["REDIS_PASSWORD"] == "p@ss"
    assert environ[BROKER] == "redis://:p%40ss@redis:6379/0"
    assert "LOG" not in environ


def test_a_file_that_cannot_be_read_is_named() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "airflow_cli.py"), "version"],
        env={"AIRFLOW_DB_PASSWORD_FILE": "/run/secrets/is-not-there"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "AIRFLOW_DB_PASSWORD_FILE is /run/secrets/is-not-there: it cannot be read (FileNotFoundError).\n"
    )
