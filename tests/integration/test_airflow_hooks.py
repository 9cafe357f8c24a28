"""Airflow's hooks, in Airflow's environment, against the real services."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from tests.support.airflow_installation import AirflowInstallation, airflow_python
from tests.support.api_server import CLIENTS, ApiServer, ForkedApi, cache_model, cloned, record_version
from tests.support.mlflow_users import mlflow_login
from tests.support.stored_rows import CREDITCARD

pytestmark = pytest.mark.timeout(600)  # each command of Airflow takes seconds, more on a busy machine


OLD_TOKEN = "an.old.one-that-was-revoked"
WRONG_SECRET = "a-secret-nobody-knows"


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, airflow_metadata: AirflowInstallation
) -> AirflowInstallation:
    airflow = AirflowInstallation(tmp_path_factory.mktemp("airflow"), airflow_python())
    airflow.copy_metadata(airflow_metadata)
    return airflow


@pytest.fixture(scope="module")
def api(
    template: Any,
    postgres_admin_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    installation: AirflowInstallation,
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    with cloned(template, postgres_admin_url, "airflow_hooks") as database:
        manifest = cache_model(folder / "cache", CREDITCARD, "7")
        record_version(database.url("owner"), CREDITCARD, "7", manifest.digest())
        server = ForkedApi(database.url("api"), folder / "cache", folder / "api.log")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@dataclass(frozen=True)
class Requests:
    """What the DAGs that ask the API wrote, and the token each left in the Variable."""

    logs: dict[str, str]
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def requests(
    installation: AirflowInstallation, api: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Requests:
    """Every DAG of the file, run one after the other in one process: Airflow takes seconds to start."""
    folder = tmp_path_factory.mktemp("tokens")
    installation.connect(
        "fraud_api",
        conn_type="http",
        host="127.0.0.1",
        port=api.port,
        login="airflow",
        password=CLIENTS["airflow"],
    )
    installation.extra |= {"TOKENS": str(folder), "OLD_TOKEN": OLD_TOKEN, "WRONG_SECRET": WRONG_SECRET}
    log = installation.python_file("api_requests.py")
    return Requests(_sections(log), {path.name: path.read_text() for path in folder.iterdir()})


def _sections(log: str) -> dict[str, str]:
    """The log of each DAG by its name."""
    parts = f"\n{log}".split("\nRUN ")[1:]
    return {part.partition("\n")[0]: part for part in parts}


def test_a_refused_token_is_replaced_by_one_that_works(requests: Requests, api: ApiServer) -> None:
    log, token = requests.logs["api_requests"], requests.tokens["api_requests"]
    assert "ENDED api_requests success" in log
    assert api.get("/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    for hidden in (OLD_TOKEN, token, CLIENTS["airflow"], "***"):
        assert hidden not in log


def test_renewal_stores_a_token_and_shows_only_its_key_and_end(requests: Requests, api: ApiServer) -> None:
    log, token = requests.logs["api_renewal"], requests.tokens["api_renewal"]
    assert token != requests.tokens["api_requests"]
    assert api.get("/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    key = httpx.get(f"{api.url}/.well-known/jwks.json", trust_env=False).json()["keys"][0]["kid"]
    assert key in log
    for hidden in (token, CLIENTS["airflow"], "***"):
        assert hidden not in log


def test_a_wrong_secret_names_the_client_and_where_to_correct_it(requests: Requests) -> None:
    log = requests.logs["wrong_secret"]
    assert "ENDED wrong_secret failed" in log
    assert "gives the client airflow no token: 401, The client id or secret is wrong." in log
    assert "Correct login and password of the connection fraud_api" in log
    assert requests.tokens["wrong_secret"] == requests.tokens["api_deep"]
    assert WRONG_SECRET not in log
    assert "***" not in log


def test_what_is_not_ready_is_named(requests: Requests) -> None:
    """The API of this test has no broker."""
    log = requests.logs["api_deep"]
    assert "is not ready: broker unreachable; topic fraud-detection-transactions unknown." in log


@pytest.fixture(scope="module")
def model(mlflow_uri: str, installation: AirflowInstallation) -> str:
    """A registered model with two versions, which Airflow is told about."""
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    writer = RegistryWriter(mlflow_uri)
    for recall in (0.8, 0.9):
        with MlflowHttp(mlflow_uri) as http:
            run_id = TrackedRuns(http).open(
                name, f"runs/test/{name}", f"recall {recall}", {"contract": "any/1"}
            )
        writer.log(run_id, parameters={"depth": 5}, metrics={"recall": recall}, tags={})
        writer.register(name, run_id, {"gate": "passed"})
    installation.extra |= {"MLFLOW_TRACKING_URI": mlflow_uri, "TEST_MODEL": name, **mlflow_login("release")}
    return name


@pytest.fixture(scope="module")
def questions(installation: AirflowInstallation, model: str) -> dict[str, str]:
    """The log of each DAG that asks MLflow."""
    return _sections(installation.python_file("model_questions.py"))


def _logged_document(log: str, word: str) -> Any:
    """The JSON document a task wrote after a word."""
    document, _end = json.JSONDecoder().raw_decode(log.partition(word)[2])
    return document


def test_versions_runs_and_aliases_of_a_real_registry(
    questions: dict[str, str], model: str, mlflow_uri: str
) -> None:
    log = questions["model_versions"]
    answer = _logged_document(log, "ANSWER")
    assert answer["older"] == 1
    assert answer["named"]["version"] == "2"
    assert answer["named"]["aliases"] == ["champion"]
    assert answer["named"]["tags"] == {"gate": "passed"}
    assert answer["run"]["metrics"] == {"recall": 0.9}
    assert answer["run"]["params"] == {"depth": "5"}
    assert _logged_document(log, "DOCUMENT") == answer["named"]
    with Registry(mlflow_uri) as registry:
        assert registry.version_of_alias(model, "champion") == "2"


def test_an_alias_that_names_nothing_fails_with_a_sentence(questions: dict[str, str], model: str) -> None:
    assert f"The model {model} has no version with the alias challenger: train" in questions["model_missing"]


def test_an_alias_for_a_version_that_is_not_there(questions: dict[str, str], model: str) -> None:
    assert f"has no version 99 of {model}." in questions["model_wrong_alias"]
