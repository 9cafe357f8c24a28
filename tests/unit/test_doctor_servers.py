"""What doctor says of servers that are wrong in a way that ours cannot be made to be, and of Docker."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fraud_embedded.doctor import docker, stores, web
from fraud_embedded.doctor.target import Target, find
from fraud_embedded.installation import Layout
from fraud_launcher.findings import Problem

Respond = Callable[[str, Mapping[str, str]], tuple[int, Any]]


@contextmanager
def server(respond: Respond) -> Iterator[int]:
    """A server whose answer to a path and headers is a status and a document; its port."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = respond(self.path, dict(self.headers))
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = _answer  # noqa: N815

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running.server_address[1]
    running.shutdown()
    running.server_close()
    thread.join()


def target(**ports: int) -> Target:
    secrets = dict.fromkeys([*stores.SECRETS.values(), "AIRFLOW_PASSWORD"], "x")
    return Target("demo", True, secrets, {name.replace("_", " "): port for name, port in ports.items()})


@pytest.mark.parametrize(
    ("open_paths", "sentence"),
    [
        ("/fraud-mlflow", "The key fraud-runs may write to the bucket fraud-mlflow"),
        ("/doctor-", "The key fraud-runs may create buckets"),
        ("?list-type", "The bucket fraud-runs can be read without a key"),
    ],
)
def test_a_store_that_allows_too_much(open_paths: str, sentence: str) -> None:
    def respond(path: str, _headers: Mapping[str, str]) -> tuple[int, Any]:
        if open_paths in path:
            return 200, b"<DeleteResult/>"
        return 403, b"<Error><Code>AccessDenied</Code></Error>"

    with server(respond) as port, pytest.raises(Problem, match=sentence) as found:
        stores.check_permissions(target(object_store=port))
    assert "identities" in found.value.fix


def test_an_mlflow_that_needs_no_log_in_and_takes_any_host() -> None:
    with (
        server(lambda _path, _headers: (200, {})) as port,
        pytest.raises(Problem, match=r"answers 200 to a request to the foreign host"),
    ):
        web.check_mlflow_host(target(mlflow=port))
    with server(lambda _path, _headers: (403, {})) as port:
        with pytest.raises(Problem, match=rf"MLflow refuses requests to 127\.0\.0\.1:{port}") as found:
            web.check_mlflow_host(target(mlflow=port))
        assert "MLFLOW_ALLOWED_HOSTS" in found.value.fix
        with pytest.raises(Problem, match="/health answers 403"):
            web.check_mlflow(target(mlflow=port))


def test_an_api_without_a_model() -> None:
    parts = {"model": {"state": "missing", "detail": "There is no champion."}, "keys": {"state": "ok"}}
    with (
        server(lambda _path, _headers: (503, {"parts": parts})) as port,
        pytest.raises(Problem, match=r"not ready: model is missing \(There is no champion\)\.") as found,
    ):
        web.check_api(target(api=port))
    assert "fraud_trainer run" in found.value.fix


def test_an_airflow_whose_scheduler_is_dead() -> None:
    health = {"metadatabase": {"status": "healthy"}, "scheduler": {"status": "unhealthy"}}
    with (
        server(lambda _path, _headers: (200, health)) as port,
        pytest.raises(Problem, match="scheduler is unhealthy, dag_processor is missing"),
    ):
        web.check_airflow(target(airflow=port))


def test_a_dag_file_that_cannot_be_read(tmp_path: Path) -> None:
    errors = [{"filename": "01_training_pipeline.py", "stack_trace": "Traceback …\nNameError: name 'x'"}]
    answers = {"/auth/token": {"access_token": "t"}, "/api/v2/importErrors": {"import_errors": errors}}

    def respond(path: str, _headers: Mapping[str, str]) -> tuple[int, Any]:
        return 200, answers.get(path, {"dags": []})

    with (
        server(respond) as port,
        pytest.raises(Problem, match=r"cannot read 01_training_pipeline\.py: NameError: name 'x'"),
    ):
        web.check_dags(target(airflow=port), tmp_path)


DOCKER = """#!/bin/sh
case "$*" in
    "compose version --short") echo "${FAKE_VERSION-2.40.3}" ;;
    "version --format"*) [ -z "${FAKE_DAEMON:-}" ] || { echo "$FAKE_DAEMON" >&2; exit 1; }; echo 28.0 ;;
    *"config --images") printf 'postgres:17\\nfraud-detection/api:local\\n' ;;
    "image inspect"*api:local) exit "${FAKE_MISSING:-0}" ;;
    "image inspect"*) echo there ;;
    "ps --quiet"*) echo "${FAKE_RUNNING:-}" ;;
    *) exit 9 ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project where Docker is a script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("COMPOSE_ENV_FILES", raising=False)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "4.5"\n')
    return tmp_path


def test_docker_s_daemon_compose_and_images(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "answers" in docker.check_daemon(project)
    assert "All 2 images" in docker.check_images(project)
    monkeypatch.setenv("FAKE_MISSING", "1")
    with pytest.raises(
        Problem, match="Of 2 images 1 are not on this machine, such as fraud-detection/api:local"
    ):
        docker.check_images(project)
    monkeypatch.setenv("FAKE_DAEMON", "permission denied")
    with pytest.raises(Problem, match=r"daemon does not answer.*permission denied"):
        docker.check_daemon(project)
    monkeypatch.setenv("FAKE_VERSION", "2.10.0")
    with pytest.raises(Problem, match=r"Docker Compose is 2\.10\.0"):
        docker.check_daemon(project)


def test_the_platform_that_runs_is_examined(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(project, project / ".local")
    assert (find(layout, {}, None).kind, find(layout, {}, None).running) == ("demo", False)
    assert find(layout, {"PORT_OFFSET": "100"}, None).ports["api"] == 8100
    monkeypatch.setenv("FAKE_RUNNING", "abc")
    found = find(layout, {"PUBLISH_MLFLOW": "5001"}, None)
    assert (found.kind, found.running, found.ports["mlflow"]) == ("compose", True, 5001)
    assert find(layout, {}, "demo").kind == "demo"
