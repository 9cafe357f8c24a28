"""The client of `/deployments`, against a server that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from config.settings import ApiClientSettings
from fraud_adapters.api_session import ApiRefused, ApiSession, ApiUnavailable
from fraud_adapters.deployments_client import DeploymentNotFound, DeploymentsClient

DEPLOYMENT = {"deployment_id": 3, "state": "validating", "version": "7", "run_id": "a", "reason": None}


@dataclass
class FakeApi:
    """Answers requests in their order from `script`, and keeps what it was sent."""

    url: str = ""
    script: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    tokens: int = 0

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/auth/token":
            self.tokens += 1
            return 200, {"access_token": f"token-{self.tokens}", "expires_in": 3600}
        self.requests.append((method, path, json.loads(body) if body else None))
        return self.script.pop(0)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = fake.answer(self.command, self.path, body)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

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


@pytest.fixture
def client(api: FakeApi) -> Iterator[DeploymentsClient]:
    settings = ApiClientSettings.model_validate(
        {"api_url": api.url, "api_client_id": "rollout", "api_client_secret": "secret"}
    )
    with ApiSession(settings, pause=lambda _: None) as session:
        yield DeploymentsClient(session)


def test_every_request_goes_to_its_route(api: FakeApi, client: DeploymentsClient) -> None:
    evaluation = {"verdict": "promote", "sentence": "Well.", "next": "advance", "state": "canary"}
    listed = (200, {"deployments": [DEPLOYMENT]})
    api.script = [(201, DEPLOYMENT), listed, *[(200, DEPLOYMENT)] * 3, (200, evaluation)]
    api.script += [(200, DEPLOYMENT)] * 4
    assert client.open(None, "a")["deployment_id"] == 3
    assert [one["version"] for one in client.latest(5)] == ["7"]
    client.get(3)
    client.report_validation(3, passed=True, reason="Well.", findings={"checks": []}, paired={"frauds": 1})
    client.set_traffic(3, 10)
    assert client.evaluate(3)["next"] == "advance"
    client.promote(3)
    client.promote(3, force=True, reason="Now.")
    client.roll_back(3, "Worse.", withdrawn=False)
    client.abort(3, "Stop.")
    assert api.requests == [
        ("POST", "/deployments", {"version": None, "run_id": "a", "mode": "canary"}),
        ("GET", "/deployments?limit=5", None),
        ("GET", "/deployments/3", None),
        (
            "POST",
            "/deployments/3/validation",
            {"passed": True, "reason": "Well.", "findings": {"checks": []}, "paired": {"frauds": 1}},
        ),
        ("POST", "/deployments/3/traffic", {"percent": 10}),
        ("POST", "/deployments/3/evaluate", {}),
        ("POST", "/deployments/3/promote", {}),
        ("POST", "/deployments/3/promote", {"force": True, "reason": "Now."}),
        ("POST", "/deployments/3/rollback", {"reason": "Worse.", "withdrawn": False}),
        ("POST", "/deployments/3/abort", {"reason": "Stop."}),
    ]
    assert api.tokens == 1


def test_a_refusal_is_told_in_the_words_of_the_api(api: FakeApi, client: DeploymentsClient) -> None:
    api.script = [(409, {"detail": "Another release is running: it must end first."})]
    with pytest.raises(ApiRefused) as refused:
        client.open("7", "a")
    assert str(refused.value) == (
        "The API refuses POST /deployments: 409, Another release is running: it must end first."
    )
    assert refused.value.kind == "refused"


def test_a_deployment_that_is_not_there_is_told_apart(api: FakeApi, client: DeploymentsClient) -> None:
    api.script = [(404, {"detail": "There is no deployment 9."})]
    with pytest.raises(
        DeploymentNotFound, match=r"knows no such deployment: 404, There is no deployment 9\.$"
    ):
        client.get(9)


def test_a_token_that_was_revoked_is_renewed_once(api: FakeApi, client: DeploymentsClient) -> None:
    api.script = [(200, DEPLOYMENT), (401, {"detail": "revoked"}), (200, DEPLOYMENT)]
    client.get(3)
    client.get(3)
    assert api.tokens == 2


def test_what_passes_is_tried_again(api: FakeApi, client: DeploymentsClient) -> None:
    api.script = [(503, {"detail": "starting"}), (200, DEPLOYMENT)]
    assert client.abort(3, "Stop.")["version"] == "7"
    api.script = [(503, {"detail": "starting"})] * 5
    with pytest.raises(ApiUnavailable, match="is not ready: 503, starting"):
        client.get(3)


@pytest.mark.parametrize("content", [b"<html>", [1], {"deployments": []}, {"version": "7"}])
def test_another_server_is_noticed(api: FakeApi, client: DeploymentsClient, content: Any) -> None:
    api.script = [(200, content)]
    with pytest.raises(ApiUnavailable, match="is API_URL the scoring API"):
        client.get(3)


@pytest.mark.parametrize("content", [[], {"state": "canary"}])
def test_an_evaluation_without_a_next_step_is_noticed(
    api: FakeApi, client: DeploymentsClient, content: Any
) -> None:
    api.script = [(200, content)]
    with pytest.raises(ApiUnavailable, match="is API_URL the scoring API"):
        client.evaluate(3)
