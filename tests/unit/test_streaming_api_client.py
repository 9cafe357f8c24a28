"""The API's client against a server that misbehaves on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from config.settings import ApiClientSettings
from fraud_adapters.api_client import RETRY_DELAYS, ApiClient, ApiRefused, ApiUnavailable
from fraud_adapters.columnar import ColumnarAnswer, answer_to_ipc, batch_from_ipc
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_core.predictions import Predictions

CONTRACT = Contract.from_mapping(
    yaml.safe_load((Path(__file__).parents[1] / "contracts/wire.yaml").read_text(encoding="utf-8"))
)
Reply = tuple[int, bytes]


def scored(body: bytes) -> Reply:
    batch = batch_from_ipc(CONTRACT, body, 1000)
    scores = np.linspace(0, 1, len(batch))
    predictions = Predictions.from_scores(
        scores,
        feature_matrix(CONTRACT, batch),
        threshold=0.5,
        block_threshold=0.9,
        model_version="7",
        engine="xgboost-3.2.0",
        policy_version="0",
    )
    return 200, answer_to_ipc(ColumnarAnswer.of_one(batch.ids, predictions, 0.5, 0.9))


@dataclass
class FakeApi:
    """Answers scoring requests from `script`, a function a request, and then as it should."""

    url: str = ""
    expires_in: float = 3600.0
    token_reply: Reply | None = None
    script: list[Callable[[bytes], Reply]] = field(default_factory=list)
    tokens: int = 0
    requests: list[str] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    def token(self) -> Reply:
        if self.token_reply is not None:
            return self.token_reply
        self.tokens += 1
        return 200, json.dumps(
            {"access_token": f"token-{self.tokens}", "token_type": "bearer", "expires_in": self.expires_in}
        ).encode()

    def score(self, body: bytes, authorization: str) -> Reply:
        self.requests.append(authorization)
        return self.script.pop(0)(body) if self.script else scored(body)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            fake.connections.add(self.client_address)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/auth/token":
                status, answer = fake.token()
            else:
                status, answer = fake.score(body, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Time:
    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def client(url: str, time: Time) -> ApiClient:
    settings = ApiClientSettings.model_validate(
        {"api_url": url, "api_client_id": "streaming", "api_client_secret": "secret"}
    )
    return ApiClient(settings, clock=lambda: time.now, pause=time.pause)


def batch(rows: int = 3) -> Batch:
    columns: dict[str, Any] = {
        "sent_amount": np.arange(rows) + 1.0,
        "hour": np.zeros(rows),
        "urgent": np.zeros(rows),
        "fee": np.full(rows, np.nan),
        "channel": np.array(["web"] * rows, dtype=object),
        "payer": np.array(["payer"] * rows, dtype=object),
        "payee": np.array(["payee"] * rows, dtype=object),
    }
    return Batch([f"id-{i}" for i in range(rows)], [datetime(2026, 1, 1, tzinfo=UTC)] * rows, columns)


def problem(status: int, detail: str) -> Callable[[bytes], Reply]:
    return lambda _: (status, json.dumps({"title": "Problem", "status": status, "detail": detail}).encode())


def test_a_batch_is_scored_over_one_connection_with_one_token(api: FakeApi) -> None:
    with client(api.url, Time()) as caller:
        (part,) = caller.score(CONTRACT, batch(), [None, "00-trace", None])
        predictions = part.predictions
        caller.score(CONTRACT, batch())
    np.testing.assert_array_equal(predictions.scores, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(predictions.feature_vectors, feature_matrix(CONTRACT, batch()))
    assert (predictions.model_version, predictions.engine, predictions.policy_version) == (
        "7",
        "xgboost-3.2.0",
        "0",
    )
    assert list(predictions.traceparents) == [None, "00-trace", None]
    assert (predictions.latency_ms > 0).all()
    assert api.requests == ["Bearer token-1", "Bearer token-1"]
    assert len(api.connections) == 1


def test_a_token_is_renewed_before_it_expires(api: FakeApi) -> None:
    time = Time()
    with client(api.url, time) as caller:
        caller.score(CONTRACT, batch())
        time.now += 3600 - 31
        caller.score(CONTRACT, batch())
        time.now += 2
        caller.score(CONTRACT, batch())
    assert api.requests == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_a_refused_token_is_renewed_once(api: FakeApi) -> None:
    api.script = [problem(401, "The token was revoked.")]
    with client(api.url, Time()) as caller:
        caller.score(CONTRACT, batch())
        api.script = [problem(401, "No."), problem(401, "The client is not active.")]
        with pytest.raises(ApiRefused, match=r"401, The client is not active\."):
            caller.score(CONTRACT, batch())
    assert api.tokens == 3


def test_what_may_pass_is_repeated_with_growing_pauses(api: FakeApi) -> None:
    time = Time()
    api.script = [problem(503, "No model."), problem(500, "Oops."), problem(429, "Slowly.")]
    with client(api.url, time) as caller:
        assert len(caller.score(CONTRACT, batch())[0].predictions) == 3
    assert time.pauses == list(RETRY_DELAYS[:3])


def test_repetition_is_bounded(api: FakeApi) -> None:
    time = Time()
    api.script = [problem(503, "There is no model that may serve.")] * 20
    with (
        client(api.url, time) as caller,
        pytest.raises(ApiUnavailable, match=r"not ready: 503, There is no model that may serve\."),
    ):
        caller.score(CONTRACT, batch())
    assert time.pauses == list(RETRY_DELAYS)


def test_a_refusal_names_the_problem_and_is_not_repeated(api: FakeApi) -> None:
    time = Time()
    api.script = [problem(422, "amount is out of range in row 3.")]
    with client(api.url, time) as caller, pytest.raises(ApiRefused, match="422, amount is out of range"):
        caller.score(CONTRACT, batch())
    assert time.pauses == []


def test_wrong_credentials_are_named(api: FakeApi) -> None:
    api.token_reply = problem(401, "The client or its secret is not known.")(b"")
    with client(api.url, Time()) as caller, pytest.raises(ApiRefused, match="API_CLIENT_ID"):
        caller.check()


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b'{"access_token": "x"}'])
def test_what_is_no_token_is_no_token(api: FakeApi, reply: bytes) -> None:
    api.token_reply = 200, reply
    with client(api.url, Time()) as caller, pytest.raises(ApiUnavailable, match="API_URL"):
        caller.check()


def test_nobody_there_is_said_in_one_sentence() -> None:
    time = Time()
    with client("http://127.0.0.1:9", time) as caller, pytest.raises(ApiUnavailable) as caught:
        caller.score(CONTRACT, batch())
    assert "http://127.0.0.1:9 does not answer" in str(caught.value)
    assert "object at 0x" not in str(caught.value)
    assert time.pauses == list(RETRY_DELAYS)


def test_an_answer_about_others_is_refused(api: FakeApi) -> None:
    def others(body: bytes) -> Reply:
        return scored(body.replace(b"id-1", b"id-9"))

    api.script = [others, lambda _: (200, b"no arrow")]
    with client(api.url, Time()) as caller:
        with pytest.raises(ApiUnavailable, match="other transactions"):
            caller.score(CONTRACT, batch())
        with pytest.raises(ApiUnavailable, match="cannot be read"):
            caller.score(CONTRACT, batch())


def test_proxy_variables_are_not_followed(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with client(api.url, Time()) as caller:
        caller.score(CONTRACT, batch())
