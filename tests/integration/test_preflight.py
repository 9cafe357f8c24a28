"""Before it works, a job checks the parts it uses, and stops with a sentence that names part and fix."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from config.services import Backend
from config.settings import ConfigurationError, KafkaSettings, ObjectStoreSettings
from fraud_adapters import preflight
from fraud_adapters.job.failures import ConfigurationFailure, JobFailed, PassingFailure
from fraud_adapters.preflight import require
from tests.support.servers import Database
from tests.support.stored_rows import run

ROOT = Path(__file__).parents[2]


LOG_INS = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "AWS_ACCESS_KEY_ID"]
LOG_INS += ["AWS_SECRET_ACCESS_KEY", "API_CLIENT_ID", "API_CLIENT_SECRET"]


@dataclass
class Ended:
    """A job that has ended."""

    code: int
    last_line: str
    result: dict[str, Any] | None


@pytest.fixture
def variables(database: Database, topics: KafkaSettings) -> dict[str, str]:
    return {
        "DATABASE_URL": database.url("producer"),
        "KAFKA_BOOTSTRAP_SERVERS": topics.kafka_bootstrap_servers,
        "KAFKA_TOPIC": topics.topic,
        "APP_ENV": "testing",
    }


def job(folder: Path, variables: dict[str, str], *command: str) -> Ended:
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, "RESULT_PATH": str(result)} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    document = json.loads(result.read_text()) if result.exists() else None
    return Ended(done.returncode, done.stderr.strip().splitlines()[-1], document)


@pytest.fixture
def silent() -> Iterator[str]:
    """host:port of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_job_stops_with_the_part_and_the_fix(
    variables: dict[str, str], tmp_path: Path, database: Database
) -> None:
    generate = ("fraud_producer", "generate", "--count", "1")
    down = job(tmp_path, variables | {"DATABASE_URL": "postgresql://a:b@127.0.0.1:9/x"}, *generate)
    assert (down.code, down.result and down.result["failure"]) == (1, "passing")
    assert "Postgres is not available" in down.last_line
    assert "Start Postgres, or correct DATABASE_URL" in down.last_line
    password = str(urlsplit(variables["DATABASE_URL"]).password)
    wrong = job(
        tmp_path, variables | {"DATABASE_URL": variables["DATABASE_URL"].replace(password, "x")}, *generate
    )
    assert (wrong.code, wrong.result) == (2, None)
    assert wrong.last_line.startswith("configuration: Postgres is not available")
    assert "Correct the password of the role fraud_producer in DATABASE_URL" in wrong.last_line
    away = job(tmp_path, variables | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}, *generate)
    assert away.code == 1
    assert "Kafka cannot be reached (127.0.0.1:9: Connection refused)" in away.last_line
    assert "correct KAFKA_BOOTSTRAP_SERVERS" in away.last_line
    assert run(database.url("owner"), "SELECT count(*) FROM simulated_labels") == [(0,)]  # nothing was done
    assert job(tmp_path, variables, *generate).code == 0


def test_help_and_wrong_options_need_no_server(tmp_path: Path) -> None:
    assert job(tmp_path, {}, "fraud_streaming", "run", "--max-seconds", "x").code == 2
    done = subprocess.run(
        [sys.executable, "-m", "fraud_producer", "generate", "--help"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0


def test_all_parts_that_are_away_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    require(Backend.POSTGRES, Backend.KAFKA)
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:b@127.0.0.1:9/x")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    with pytest.raises(PassingFailure, match=r"Postgres is not .* Also not available: kafka\."):
        require(Backend.POSTGRES, Backend.KAFKA)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "nonsense")
    with pytest.raises(ConfigurationError, match="KAFKA_BOOTSTRAP_SERVERS"):
        require(Backend.POSTGRES, Backend.KAFKA)


@pytest.mark.parametrize(
    ("part", "variable", "address"),
    [
        (Backend.POSTGRES, "DATABASE_URL", "postgresql://a:b@{}/x"),
        (Backend.KAFKA, "KAFKA_BOOTSTRAP_SERVERS", "{}"),
        (Backend.MLFLOW, "MLFLOW_TRACKING_URI", "http://{}"),
        (Backend.OBJECT_STORE, "S3_ENDPOINT_URL", "http://{}"),
        (Backend.API, "API_URL", "http://{}"),
    ],
)
def test_a_server_that_hangs_fails_the_check_in_time(
    monkeypatch: pytest.MonkeyPatch, silent: str, part: Backend, variable: str, address: str
) -> None:
    for name in LOG_INS:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv(variable, address.format(silent))
    started = time.monotonic()
    with pytest.raises(JobFailed) as failed:
        require(part, seconds=0.5)
    assert time.monotonic() - started < 5
    assert f"{preflight.NAMES[part]} did not answer within 0.5 s. Start" in str(failed.value)
    assert variable in str(failed.value)


def test_a_wrong_key_of_the_store_is_a_matter_of_configuration(
    monkeypatch: pytest.MonkeyPatch, object_store: ObjectStoreSettings
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", object_store.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.aws_access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.aws_secret_access_key.get_secret_value())
    require(Backend.OBJECT_STORE)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigurationFailure, match="Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        require(Backend.OBJECT_STORE)


def test_what_listens_there_is_not_the_api(
    monkeypatch: pytest.MonkeyPatch, object_store: ObjectStoreSettings
) -> None:
    monkeypatch.setenv("API_URL", object_store.endpoint_url)
    monkeypatch.setenv("API_CLIENT_ID", "x")
    monkeypatch.setenv("API_CLIENT_SECRET", "x")
    with pytest.raises(PassingFailure, match="is not the scoring API"):
        require(Backend.API)
