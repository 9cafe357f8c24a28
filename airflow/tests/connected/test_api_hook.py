"""The hook to the scoring API, against a server that speaks the same routes."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

from config.constants import VARIABLE_API_TOKEN
from hooks.api_hook import FraudApiHook

SECRET = "the-client-secret"


def _token(number: int) -> str:
    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    return f"{part({'kid': f'key-{number}'})}.{part({'exp': 1795263193, 'sub': 'airflow'})}.signature{number}"


class Api:
    """The scoring API's routes; takes the tokens in `accepted`, gives out the next one."""

    def __init__(self) -> None:
        self.secret = SECRET
        self.issued: list[str] = []
        self.accepted: set[str] = set()
        self.accepts_new = True
        self.answers: dict[str, tuple[int, Any]] = {"/models": (200, {"models": []})}

    def __call__(self, request: Any) -> tuple[int, Any]:
        if request.path == "/auth/token":
            return self._issue(request)
        if request.path.startswith("/health"):
            return self.answers[request.path]
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.accepted:
            return 401, {"status": 401, "detail": "The token has expired."}
        return self.answers[request.path]

    def _issue(self, request: Any) -> tuple[int, Any]:
        expected = {"grant_type": "client_credentials", "client_id": "airflow", "client_secret": self.secret}
        if request.form != expected:
            return 401, {"error": "invalid_client", "detail": "The client id or secret is wrong."}
        self.issued.append(_token(len(self.issued)))
        if self.accepts_new:
            self.accepted.add(self.issued[-1])
        return 200, {"access_token": self.issued[-1], "token_type": "bearer", "expires_in": 3600}


@pytest.fixture
def api(http_server: Any, supervisor: Any) -> Api:
    made = Api()
    http_server.reply = made
    supervisor.connections["fraud_api"] = {
        "conn_type": "http",
        "host": "127.0.0.1",
        "port": http_server.port,
        "login": "airflow",
        "password": SECRET,
    }
    return made


@pytest.fixture(autouse=True)
def no_secret_in_any_output(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")
    yield
    written = capsys.readouterr()
    # `caplog.text` is by now that of the teardown.
    logged = [record.getMessage() for record in caplog.get_records("call")]
    shown = "\n".join([*logged, written.out, written.err])
    for hidden in (SECRET, "signature", "***", "HTTP Request"):
        assert hidden not in shown


def test_a_missing_token_is_fetched_and_stored(api: Api, supervisor: Any) -> None:
    assert FraudApiHook().get("/models") == {"models": []}
    assert supervisor.variables == {VARIABLE_API_TOKEN: api.issued[0]}
    assert FraudApiHook().get("/models") == {"models": []}
    assert len(api.issued) == 1


def test_a_refused_token_is_renewed_once(api: Api, supervisor: Any, http_server: Any) -> None:
    supervisor.variables[VARIABLE_API_TOKEN] = "an.old.signature"
    api.answers["/predict"] = (200, {"prediction": 0})
    assert FraudApiHook().post("/predict", {"amount": 1.5}) == {"prediction": 0}
    assert supervisor.variables[VARIABLE_API_TOKEN] == api.issued[0]
    assert [request.json for request in http_server.asked("/predict")] == [{"amount": 1.5}] * 2


@pytest.mark.parametrize("stored", ["", "no token", "line\nbreak", "ü.ü.ü", "two.parts"])
def test_what_is_no_token_is_not_sent(stored: str, api: Api, supervisor: Any, http_server: Any) -> None:
    supervisor.variables[VARIABLE_API_TOKEN] = stored
    FraudApiHook().get("/models")
    assert len(http_server.asked("/models")) == 1
    assert supervisor.variables[VARIABLE_API_TOKEN] == api.issued[0]


def test_a_fresh_token_that_is_refused_too_names_the_client(
    api: Api, supervisor: Any, http_server: Any
) -> None:
    api.accepts_new = False
    with pytest.raises(AirflowException, match=r"fresh token of the client airflow: 401, The token has exp"):
        FraudApiHook().get("/models")
    assert len(http_server.asked("/models")) == 1
    assert supervisor.variables == {}


def test_a_wrong_secret_says_where_to_correct_it(api: Api) -> None:
    api.secret = "rotated"
    with pytest.raises(
        AirflowException, match=r"client airflow no token.*connection fraud_api.*API_CLIENT_SECRET_AIRFLOW"
    ):
        FraudApiHook().get("/models")


@pytest.mark.parametrize("field", ["login", "password", "host"])
def test_a_connection_that_lacks_a_field(field: str, api: Api, supervisor: Any) -> None:
    supervisor.connections["fraud_api"][field] = None
    with pytest.raises(AirflowException, match=f"connection fraud_api has no {field}"):
        FraudApiHook().get("/models")


def test_a_connection_that_is_not_there(supervisor: Any) -> None:
    with pytest.raises(AirflowNotFoundException, match="fraud_api"):
        FraudApiHook().get("/models")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((422, {"detail": "deep must be 0 or 1."}), r"refuses GET /models: 422, deep must be 0 or 1\.$"),
        (
            (422, {"detail": "Wrong.", "errors": [{"index": 3, "detail": "amount: Too small."}, {}]}),
            r"422, Wrong; record 3: amount: Too small \(and 1 more\)\.$",
        ),
        ((503, {"detail": "No model."}), r"cannot serve GET /models: 503, No model\.$"),
        ((502, b"<html>Bad Gateway</html>"), r"cannot serve GET /models: 502, no reason given\.$"),
        ((302, b""), r"refuses GET /models: 302, no reason given\.$"),
        ((200, b"<html>"), r"gave no JSON for GET /models; correct host and port"),
    ],
)
def test_an_error_is_a_sentence(answer: tuple[int, Any], sentence: str, api: Api) -> None:
    api.answers["/models"] = answer
    with pytest.raises(AirflowException, match=sentence):
        FraudApiHook().get("/models")


def test_nobody_answers(api: Api, supervisor: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        supervisor.connections["fraud_api"]["port"] = taken.getsockname()[1]
        with pytest.raises(AirflowException, match=r"127.0.0.1:\d+ cannot be reached: .*refused.*start"):
            FraudApiHook().ready()


def test_an_answer_that_does_not_come_in_time(api: Api, supervisor: Any, http_server: Any) -> None:
    over = threading.Event()

    def hang(_request: Any) -> tuple[int, Any]:
        over.wait(30)
        return 200, {}

    http_server.reply = hang
    with pytest.raises(AirflowException, match=r"did not answer GET /health/ready within 0\.2 seconds\.$"):
        FraudApiHook(seconds=0.2).ready()
    over.set()


@pytest.mark.parametrize("host", ["127.0.0.1:http", "in valid", "ftp://127.0.0.1"])
def test_an_address_that_is_none(host: str, api: Api, supervisor: Any) -> None:
    supervisor.connections["fraud_api"] |= {"host": host, "port": None}
    with pytest.raises(AirflowException, match=r"cannot be reached: .*correct host and port of"):
        FraudApiHook().ready()


def test_a_whole_address_as_host(api: Api, supervisor: Any, http_server: Any) -> None:
    supervisor.connections["fraud_api"] |= {"host": http_server.url, "port": None}
    assert FraudApiHook().get("/models") == {"models": []}


def test_a_proxy_of_the_environment_is_not_asked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert FraudApiHook().get("/models") == {"models": []}


def test_ready_names_the_parts_that_are_not(api: Api, http_server: Any) -> None:
    parts = {
        "model": {"state": "missing", "detail": "There is no champion."},
        "topic": {"state": "missing", "name": "fraud-detection-transactions"},
        "database": {"state": "ok"},
    }
    api.answers["/health/ready"] = (503, {"detail": "Not ready: model, topic.", "parts": parts})
    expected = (
        r"is not ready: model missing \(There is no champion\); topic fraud-detection-transactions missing\.$"
    )
    with pytest.raises(AirflowException, match=expected):
        FraudApiHook().ready()
    assert http_server.requests[-1].query == {"deep": "1"}


def test_ready_gives_the_parts(api: Api, http_server: Any) -> None:
    api.answers["/health/ready"] = (200, {"status": "ready", "parts": {"model": {"state": "ok"}}})
    assert FraudApiHook().ready(deep=False) == {"model": {"state": "ok"}}
    assert http_server.requests[-1].query == {"deep": "0"}
    assert "authorization" not in http_server.requests[-1].headers


def test_ready_of_something_else(api: Api) -> None:
    api.answers["/health/ready"] = (200, b"hello")
    with pytest.raises(AirflowException, match="refuses GET /health/ready: 200"):
        FraudApiHook().ready()


def test_renewal_verifies_before_it_stores(api: Api, supervisor: Any, http_server: Any) -> None:
    expected = {"client_id": "airflow", "key_id": "key-0", "expires_at": "2026-11-21T12:13:13Z"}
    assert FraudApiHook().renew_token() == expected
    assert supervisor.variables[VARIABLE_API_TOKEN] == api.issued[0]
    assert http_server.asked("/models")[0].headers["authorization"] == f"Bearer {api.issued[0]}"


def test_a_token_that_does_not_work_is_not_stored(api: Api, supervisor: Any) -> None:
    supervisor.variables[VARIABLE_API_TOKEN] = _token(77)
    api.accepts_new = False
    with pytest.raises(AirflowException, match=r"airflow a token that it does not accept: GET /models: 401"):
        FraudApiHook().renew_token()
    assert supervisor.variables[VARIABLE_API_TOKEN] == _token(77)


def test_something_else_in_place_of_a_token(http_server: Any, supervisor: Any, api: Api) -> None:
    http_server.reply = lambda _request: (200, {"access_token": "a\nb"})
    with pytest.raises(AirflowException, match=r"gave no token for POST /auth/token; correct host"):
        FraudApiHook().renew_token()
    http_server.reply = lambda _request: (200, {"access_token": "a.b.c"})
    with pytest.raises(AirflowException, match="a token without key id or expiry"):
        FraudApiHook().renew_token()
