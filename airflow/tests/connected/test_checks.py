"""What the first tasks of the DAGs find out, and say, before a job is started."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from config import constants
from fraud_airflow import checks, tokens

# conftest.py's; fixtures bring them.
HttpServer = Any
Supervisor = Any

SECRETS = {
    "DATABASE_URL_PRODUCER": "postgresql://producer:geheim@127.0.0.1/fraud",
    "DATABASE_URL_STREAMING": "postgresql://streaming:geheim@127.0.0.1/fraud",
    "API_CLIENT_SECRET_STREAMING": "geheim",
}
GOOD: dict[str, Any] = {
    "broker": {"state": "ok"},
    "topic": {"state": "ok", "name": "fraud-detection-transactions"},
    "database": {"state": "ok"},
    "model": {"state": "ok", "version": "7"},
}


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


class Api:
    """Readiness with `parts`, and `/models` for whoever holds `token`."""

    def __init__(self, server: HttpServer, supervisor: Supervisor) -> None:
        self.parts = dict(GOOD)
        self.token = "the.right.token"
        self.server = server
        server.reply = self._reply
        supervisor.variables[constants.VARIABLE_API_TOKEN] = self.token
        supervisor.connections[constants.CONNECTION_API] = {
            "conn_type": "http",
            "host": "127.0.0.1",
            "port": server.port,
            "login": "airflow",
            "password": "geheim",
        }

    def _reply(self, request: Any) -> tuple[int, Any]:
        if request.path == "/health/ready":
            wrong = any(part.get("state") != "ok" for part in self.parts.values())
            return 503 if wrong else 200, {"parts": self.parts}
        if request.path == "/models" and request.headers["authorization"] == f"Bearer {self.token}":
            return 200, {"models": [{"name": "fraud-creditcard"}]}
        return 401, {"detail": "The client is not active."}


@pytest.fixture
def api(http_server: HttpServer, supervisor: Supervisor) -> Api:
    return Api(http_server, supervisor)


def test_where_all_is_well_the_next_task_learns_topic_and_model(api: Api) -> None:
    assert checks.producer_config() == {"topic": "fraud-detection-transactions"}
    assert checks.streaming_config() == {"topic": "fraud-detection-transactions", "model": "7"}
    assert checks.token_config() == {"connection": "fraud_api", "variable": "fraud_api_token"}


@pytest.mark.parametrize("part", ["broker", "topic", "database"])
def test_the_producer_names_the_part_that_is_missing(api: Api, part: str) -> None:
    api.parts[part] = {**GOOD[part], "state": "unreachable"}
    with pytest.raises(AirflowException, match=rf"The scoring API .* is not ready: {part} .*unreachable\."):
        checks.producer_config()


def test_a_part_that_is_not_reported_is_not_ready(api: Api) -> None:
    del api.parts["broker"]
    with pytest.raises(AirflowException, match=r"is not ready: broker\."):
        checks.producer_config()


def test_the_producer_needs_no_model_and_the_consumer_does(api: Api) -> None:
    api.parts["model"] = {"state": "missing"}
    checks.producer_config()
    with pytest.raises(AirflowException, match=r"is not ready: model missing\."):
        checks.streaming_config()


def test_a_client_the_api_does_not_take_is_found_out_before_the_job_starts(api: Api) -> None:
    api.token = "an.other.token"
    with pytest.raises(AirflowException, match=r"The client is not active"):
        checks.streaming_config()


def test_an_api_that_is_away_is_named(api: Api, supervisor: Supervisor) -> None:
    supervisor.connections[constants.CONNECTION_API]["port"] = 1
    for check in (checks.producer_config, checks.streaming_config, checks.token_config):
        with pytest.raises(AirflowException, match=r"The scoring API at http://127\.0\.0\.1:1 cannot be"):
            check()


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (checks.producer_config, "DATABASE_URL_PRODUCER"),
        (checks.streaming_config, "DATABASE_URL_STREAMING"),
        (checks.streaming_config, "API_CLIENT_SECRET_STREAMING"),
    ],
)
def test_a_variable_that_is_missing_is_named_and_not_tried_again(
    api: Api, monkeypatch: pytest.MonkeyPatch, check: Any, name: str
) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(AirflowFailException, match=rf"^{name} is not set for Airflow's workers: set it"):
        check()
    assert not api.server.requests, "the variables come first"


def test_all_that_is_missing_is_named_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL_STREAMING", "")
    monkeypatch.delenv("API_CLIENT_SECRET_STREAMING")
    with pytest.raises(
        AirflowFailException, match=r"^DATABASE_URL_STREAMING, API_CLIENT_SECRET_STREAMING are"
    ):
        checks.streaming_config()


def test_a_topic_whose_name_the_others_cannot_follow(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(constants.ENV_VARS, "KAFKA_TOPIC", "payments")
    for check in (checks.producer_config, checks.streaming_config):
        with pytest.raises(AirflowFailException, match=r"KAFKA_TOPIC is payments: its name must end in -tr"):
            check()


def test_the_stored_token_is_verified_and_never_replaced(api: Api, supervisor: Supervisor) -> None:
    assert tokens.verify() == 1
    api.token = "an.other.token"
    with pytest.raises(AirflowException, match=r"refuses GET /models: 401"):
        tokens.verify()
    assert not api.server.asked("/auth/token")
    del supervisor.variables[constants.VARIABLE_API_TOKEN]
    with pytest.raises(AirflowException, match=r"fraud_api_token holds no token: run 00_token_renewal"):
        tokens.verify()
