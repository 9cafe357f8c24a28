"""Hooks and alerts in tasks that one process of Airflow runs, against the real services and a webhook."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from config import constants
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from tests.support.airflow_metadata import FirstStart
from tests.support.airflow_platform import PreparedPlatform
from tests.support.api_server import CLIENTS, ApiServer, ForkedApi
from tests.support.mlflow_users import mlflow_login
from tests.support.webhook import Webhook, running_webhook

# The first test includes the start of the servers and of Airflow, which take minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)

DAGS: Final = Path(__file__).parent / "in_process"
MOODS: Final = ("bad", "good", "bad", "bad", "idle", "good")
OLD_TOKEN: Final = "an.old.one-that-was-revoked"
WRONG_SECRET: Final = "a-secret-nobody-knows"


@dataclass(frozen=True)
class Model:
    """A registered model with two versions, and the log-in of the user who may set its aliases."""

    name: str
    release_login: dict[str, str]


@pytest.fixture(scope="module")
def api(prepared: PreparedPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A replica of the platform's API that has no broker."""
    log = tmp_path_factory.mktemp("api") / "api.log"
    server = ForkedApi(prepared.api.database_url, prepared.api.cache, log)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    """Refuses the first message, so that nobody hears of the first failure, and so of its end."""
    with running_webhook() as receiving:
        receiving.refused = 1
        yield receiving


@pytest.fixture(scope="module")
def model(mlflow_uri: str, prepared: PreparedPlatform) -> Iterator[Model]:
    """The model, registered; this process logs in to MLflow as the trainer."""
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in mlflow_login("trainer", prepared.stack.mlflow.users).items():
            patch.setenv(variable, value)
        writer = RegistryWriter(mlflow_uri)
        for recall in (0.8, 0.9):
            with MlflowHttp(mlflow_uri) as http:
                run_id = TrackedRuns(http).open(
                    name, f"runs/test/{name}", f"recall {recall}", {"contract": "any/1"}
                )
            writer.log(run_id, parameters={"depth": 5}, metrics={"recall": recall}, tags={})
            writer.register(name, run_id, {"gate": "passed"})
        yield Model(name, mlflow_login("release", prepared.stack.mlflow.users))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where each DAG leaves the token of the Variable."""
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def logs(
    first_start: FirstStart, api: ApiServer, webhook: Webhook, model: Model, tokens: Path
) -> dict[str, str]:
    """The log of each DAG by its name; the alerts are one."""
    log = first_start.to_run.program(
        DAGS / "run_all.py",
        AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST="",
        AIRFLOW_CONN_FRAUD_API=json.dumps(
            {
                "conn_type": "http",
                "host": "127.0.0.1",
                "port": api.port,
                "login": constants.CLIENT_AIRFLOW,
                "password": CLIENTS["airflow"],
            }
        ),
        AIRFLOW_CONN_FRAUD_SLACK=json.dumps({"conn_type": "http", "password": webhook.url}),
        TOKENS=str(tokens),
        OLD_TOKEN=OLD_TOKEN,
        WRONG_SECRET=WRONG_SECRET,
        MOODS=",".join(MOODS),
        TEST_MODEL=model.name,
        **model.release_login,
    )
    parts = f"\n{log}".split("\nRUN ")[1:]
    return {part.partition("\n")[0]: part for part in parts}


def token(tokens: Path, dag: str) -> str:
    return (tokens / dag).read_text()


def test_a_refused_token_is_replaced_by_one_that_works(
    logs: dict[str, str], tokens: Path, api: ApiServer
) -> None:
    log, stored = logs["api_requests"], token(tokens, "api_requests")
    assert "ENDED api_requests success" in log
    assert api.get("/models", headers={"Authorization": f"Bearer {stored}"}).status_code == 200
    for hidden in (OLD_TOKEN, stored, CLIENTS["airflow"], "***"):
        assert hidden not in log


def test_renewal_stores_a_token_and_shows_only_its_key_and_end(
    logs: dict[str, str], tokens: Path, api: ApiServer
) -> None:
    log, stored = logs["api_renewal"], token(tokens, "api_renewal")
    assert stored != token(tokens, "api_requests")
    assert api.get("/models", headers={"Authorization": f"Bearer {stored}"}).status_code == 200
    key = httpx.get(f"{api.url}/.well-known/jwks.json", trust_env=False).json()["keys"][0]["kid"]
    assert key in log
    for hidden in (stored, CLIENTS["airflow"], "***"):
        assert hidden not in log


def test_a_wrong_secret_names_the_client_and_where_to_correct_it(logs: dict[str, str], tokens: Path) -> None:
    log = logs["wrong_secret"]
    assert "ENDED wrong_secret failed" in log
    assert "gives the client airflow no token: 401, The client id or secret is wrong." in log
    assert "Correct login and password of the connection fraud_api" in log
    assert token(tokens, "wrong_secret") == token(tokens, "api_deep")
    assert WRONG_SECRET not in log
    assert "***" not in log


def test_what_is_not_ready_is_named(logs: dict[str, str]) -> None:
    """The API of this test has no broker."""
    log = logs["api_deep"]
    assert "is not ready: broker unreachable; topic fraud-detection-transactions unknown." in log


def _logged_document(log: str, word: str) -> Any:
    """The JSON document a task wrote after a word."""
    document, _end = json.JSONDecoder().raw_decode(log.partition(word)[2])
    return document


def test_versions_runs_and_aliases_of_a_real_registry(
    logs: dict[str, str], model: Model, mlflow_uri: str
) -> None:
    log = logs["model_versions"]
    answer = _logged_document(log, "ANSWER")
    assert answer["older"] == 1
    assert answer["named"]["version"] == "2"
    assert answer["named"]["aliases"] == ["champion"]
    assert answer["named"]["tags"] == {"gate": "passed"}
    assert answer["run"]["metrics"] == {"recall": 0.9}
    assert answer["run"]["params"] == {"depth": "5"}
    assert _logged_document(log, "DOCUMENT") == answer["named"]
    with Registry(mlflow_uri) as registry:
        assert registry.version_of_alias(model.name, "champion") == "2"


def test_an_alias_that_names_nothing_fails_with_a_sentence(logs: dict[str, str], model: Model) -> None:
    assert f"The model {model.name} has no version with the alias challenger: train" in logs["model_missing"]


def test_an_alias_for_a_version_that_is_not_there(logs: dict[str, str], model: Model) -> None:
    assert f"has no version 99 of {model.name}." in logs["model_wrong_alias"]


def test_failures_are_told_once_and_so_is_their_end(logs: dict[str, str], webhook: Webhook) -> None:
    log = logs["alerts"]
    states = [line.split()[1:3] for line in log.splitlines() if line.startswith("MOOD ")]
    assert [mood for mood, _ in states] == list(MOODS)
    assert all((mood == "bad") == ("failed" in state.lower()) for mood, state in states)
    assert sum(line.startswith("ALERT ") and "success" in line.lower() for line in log.splitlines()) == 2
    assert "Not sent by Slack: Slack answered 403" in log
    for hidden in (urlsplit(webhook.url).path.rpartition("/")[2], "***"):
        assert hidden not in log

    failed, resolved, drift = webhook.texts
    assert failed.startswith(
        "*[critical] moody: work failed*\nValueError: no luck &lt;today&gt;\n\nRun manual__"
    )
    assert "try 2." in failed
    assert "/dags/moody/runs/manual__" in failed
    assert resolved.startswith("*[resolved] moody: work failed*\nIt had happened 2 times within ")
    assert drift.startswith("*[high] Drift of drift_alerts*\nPSI 0.4\n<http")
