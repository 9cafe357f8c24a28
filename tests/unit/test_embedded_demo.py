"""The demo's own questions to the servers."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fraud_embedded import demo
from fraud_embedded.processes.process import StartFailed


class Answer(BaseHTTPRequestHandler):
    status, body = 200, b""

    def do_GET(self) -> None:
        # As the user `person`, with the password that `.env` names.
        login = b"person:of MLFLOW_PERSON_PASSWORD"
        known = self.headers["Authorization"] == f"Basic {base64.b64encode(login).decode()}"
        self.send_response(self.status if known else 401)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_arguments: object) -> None: ...


@pytest.fixture
def platform() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mlflow = SimpleNamespace(tracking_uri=f"http://127.0.0.1:{server.server_port}")
        yield SimpleNamespace(
            stack=SimpleNamespace(mlflow=mlflow), registered_model="fraud-x", secret=lambda name: f"of {name}"
        )
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


def test_an_answer_that_is_late_is_waited_for_and_one_that_never_comes_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supervisor: Any = SimpleNamespace(log=lambda name: tmp_path / name)
    answers = iter([StartFailed("airflow does not answer GET /x."), None])

    def late() -> bool:
        answer = next(answers)
        if answer is not None:
            raise answer
        return True

    def never() -> bool:
        raise StartFailed("airflow refuses the log-in.")

    api: Any = SimpleNamespace()
    demo._wait(late, "the DAGs stored nothing", api, supervisor)
    monkeypatch.setattr(demo, "_PATIENCE_S", 0.5)
    with pytest.raises(StartFailed, match=r"the DAGs stored nothing in 0.5 s.\nairflow refuses the log-in."):
        demo._wait(never, "the DAGs stored nothing", api, supervisor)
