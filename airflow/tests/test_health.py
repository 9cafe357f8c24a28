"""The health checks, asked as a container asks them; the heartbeat of a real worker is Celery's signal."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
HEALTH = SCRIPTS / "health.py"


class Web(HTTPServer):
    """Airflow's web server as far as the checks ask it."""

    known: dict[str, Any] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/execution/"


class _Answer(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        right = self.path == "/api/v2/monitor/health" and self.server.known is not None
        self.send_response(200 if right else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.known).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(*part: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(HEALTH), *part],
        env=environ | {"http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )


PARTS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


@pytest.mark.parametrize(("part", "key"), PARTS.items())
def test_a_part_is_as_the_web_server_says(web: Web, part: str, key: str) -> None:
    where = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": web.address}
    others = {name: {"status": "healthy"} for name in PARTS.values()}
    web.known = others
    assert ask(part, **where).returncode == 0
    for status, said in (("unhealthy", "unhealthy"), (None, "not running")):
        web.known = others | {key: {"status": status}}
        done = ask(part, **where)
        assert (done.returncode, done.stderr) == (1, f"the {key} is {said}.\n")
    web.known = {}
    assert "does not report the state of the" in ask(part, **where).stderr
    web.known = None
    assert "does not answer (HTTPError)" in ask(part, **where).stderr


def test_a_web_server_that_is_away_is_no_health() -> None:
    done = ask("scheduler", AIRFLOW__CORE__EXECUTION_API_SERVER_URL="http://127.0.0.1:1/execution/")
    assert done.returncode == 1
    assert done.stderr == "http://127.0.0.1:1/api/v2/monitor/health does not answer (URLError).\n"


def test_the_web_server_needs_its_database(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    health = runpy.run_path(str(HEALTH))
    monkeypatch.setitem(health["webserver"].__globals__, "_OWN_WEBSERVER", web.address)
    web.known = {"metadatabase": {"status": "healthy"}}
    health["webserver"]()
    web.known = {"metadatabase": {"status": "unhealthy"}}
    with pytest.raises(health["Unhealthy"], match="the metadatabase is unhealthy"):
        health["webserver"]()


@pytest.mark.parametrize("part", ["worker", "cleanup"])
def test_a_heartbeat_is_good_for_its_time(tmp_path: Path, part: str) -> None:
    where = {"HEARTBEAT_FILE": str(tmp_path / "heartbeat")}
    assert "holds no heartbeat (FileNotFoundError)" in ask(part, **where).stderr
    beat("beat(60)", **where)
    assert ask(part, **where).returncode == 0
    beat("beat(-5)", **where)
    done = ask(part, **where)
    assert done.returncode == 1
    assert "s late." in done.stderr
    assert "HEARTBEAT_FILE is not set" in ask(part).stderr


def test_a_worker_that_beats_is_seen(tmp_path: Path) -> None:
    where = {"HEARTBEAT_FILE": str(tmp_path / "heartbeat")}
    beat("import celery.signals; celery.signals.heartbeat_sent.send(sender=None)", **where)
    assert ask("worker", **where).returncode == 0


def test_where_nobody_asks_nothing_is_written(tmp_path: Path) -> None:
    beat("beat(60)")
    assert list(tmp_path.iterdir()) == []


def beat(code: str, **environ: str) -> None:
    where = {"PYTHONPATH": str(SCRIPTS), "PATH": os.environ["PATH"]} | environ
    subprocess.run([sys.executable, "-c", f"from heartbeat import beat; {code}"], env=where, check=True)


@pytest.mark.parametrize("wrong", [[], ["cook"], ["worker", "worker"]])
def test_a_part_that_does_not_exist_is_refused(wrong: list[str]) -> None:
    done = ask(*wrong)
    assert done.returncode == 2
    assert "usage: health.py {webserver,scheduler" in done.stderr
