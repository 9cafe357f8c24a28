"""Airflow's hooks, in Airflow's environment, against the real services."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fraud_adapters.registry import Registry
from fraud_adapters.registry_writer import RegistryWriter
from tests.integration.airflow_site import AirflowSite, airflow_python
from tests.integration.api_server import CLIENTS, ApiServer, cache_model, cloned, record_version
from tests.integration.store_rows import CREDITCARD

pytestmark = pytest.mark.timeout(600)  # each command of Airflow takes seconds, more on a busy machine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> AirflowSite:
    made = AirflowSite(tmp_path_factory.mktemp("airflow"), airflow_python())
    made.run("db", "migrate")
    return made


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory, site: AirflowSite
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    with cloned(template, postgres_admin_url, "airflow_hooks") as database:
        manifest = cache_model(folder / "cache", CREDITCARD, "7")
        record_version(database.url("owner"), CREDITCARD, "7", manifest.digest())
        server = ApiServer(database.url("api"), folder / "cache", folder / "api.log")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def connected(site: AirflowSite, api: ApiServer) -> AirflowSite:
    site.connect(
        "fraud_api",
        conn_type="http",
        host="127.0.0.1",
        port=api.port,
        login="airflow",
        password=CLIENTS["airflow"],
    )
    return site


def test_a_refused_token_is_replaced_by_one_that_works(connected: AirflowSite, api: ApiServer) -> None:
    old = "an.old.one-that-was-revoked"
    connected.run("variables", "set", "fraud_api_token", old)
    log = connected.test_dag("api_requests")
    assert "state=success" in log
    token = connected.variable("fraud_api_token")
    assert api.get("/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    for hidden in (old, token, CLIENTS["airflow"], "***"):
        assert hidden not in log


def test_renewal_stores_a_token_and_shows_only_its_key_and_end(
    connected: AirflowSite, api: ApiServer
) -> None:
    log = connected.test_dag("api_renewal")
    token = connected.variable("fraud_api_token")
    assert api.get("/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    key = httpx.get(f"{api.url}/.well-known/jwks.json", trust_env=False).json()["keys"][0]["kid"]
    assert key in log
    for hidden in (token, CLIENTS["airflow"], "***"):
        assert hidden not in log


def test_a_wrong_secret_names_the_client_and_where_to_correct_it(
    connected: AirflowSite, api: ApiServer
) -> None:
    connection = json.loads(connected.extra["AIRFLOW_CONN_FRAUD_API"])
    connected.connect("fraud_api", **connection | {"password": "a-secret-nobody-knows"})
    log = connected.test_dag("api_renewal")
    assert "gives the client airflow no token: 401, The client id or secret is wrong." in log
    assert "Correct login and password of the connection fraud_api" in log
    assert "a-secret-nobody-knows" not in log
    assert "***" not in log


def test_what_is_not_ready_is_named(connected: AirflowSite) -> None:
    """The API of this test has no broker."""
    log = connected.test_dag("api_deep")
    assert "is not ready: broker unreachable; topic fraud-detection-transactions unknown." in log


@pytest.fixture(scope="module")
def model(mlflow_uri: str, site: AirflowSite) -> str:
    """A registered model with two versions, which Airflow is told about."""
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    writer = RegistryWriter(mlflow_uri)
    for recall in (0.8, 0.9):
        run_id = writer.start_run(name, f"recall {recall}", {"contract": "any/1"})
        writer.log(run_id, parameters={"depth": 5}, metrics={"recall": recall}, tags={})
        writer.register(name, run_id, {"gate": "passed"})
    site.extra |= {"MLFLOW_TRACKING_URI": mlflow_uri, "TEST_MODEL": name}
    return name


def _said(log: str, word: str) -> Any:
    """The JSON document a task wrote after a word."""
    found, _end = json.JSONDecoder().raw_decode(log.partition(word)[2])
    return found


def test_versions_runs_and_aliases_of_a_real_registry(site: AirflowSite, model: str, mlflow_uri: str) -> None:
    log = site.test_dag("model_versions")
    answer = _said(log, "ANSWER")
    assert answer["older"] == 1
    assert answer["named"]["version"] == "2"
    assert answer["named"]["aliases"] == ["champion"]
    assert answer["named"]["tags"] == {"gate": "passed"}
    assert answer["run"]["metrics"] == {"recall": 0.9}
    assert answer["run"]["params"] == {"depth": "5"}
    assert _said(log, "DOCUMENT") == answer["named"]
    with Registry(mlflow_uri) as registry:
        assert registry.version_of_alias(model, "champion") == "2"


def test_an_alias_that_names_nothing_fails_with_a_sentence(site: AirflowSite, model: str) -> None:
    assert f"The model {model} has no version with the alias challenger: train" in site.test_dag(
        "model_missing"
    )


def test_an_alias_for_a_version_that_is_not_there(site: AirflowSite, model: str) -> None:
    assert f"has no version 99 of {model}." in site.test_dag("model_wrong_alias")
