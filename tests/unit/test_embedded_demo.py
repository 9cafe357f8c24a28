"""The demo's own questions to the servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from fraud_embedded import demo
from fraud_embedded.process import StartFailed


class Answer(BaseHTTPRequestHandler):
    status, body = 200, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_arguments: object) -> None: ...


@pytest.fixture
def platform() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mlflow = SimpleNamespace(tracking_uri=f"http://127.0.0.1:{server.server_port}")
        yield SimpleNamespace(stack=SimpleNamespace(mlflow=mlflow), registered_model="fraud-x")
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"model_version": {"version": "7"}}', "7"),
        (404, b"", None),
        (400, b"", None),
        (500, b"", StartFailed),
        (200, b"a page", StartFailed),
        (200, b"{}", StartFailed),
    ],
)
def test_the_champion_is_named_absent_or_a_failed_start(
    platform: Any, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, expected: Any
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    monkeypatch.setattr(Answer, "body", body)
    if expected is StartFailed:
        with pytest.raises(StartFailed, match="mlflow"):
            demo.champion(platform)
    else:
        assert demo.champion(platform) == expected
