"""Failures and alerts of real tasks, over Airflow's own Variables and Connections, to a webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_installation import AirflowInstallation, airflow_python

pytestmark = pytest.mark.timeout(600)  # each command of Airflow takes seconds, more on a busy machine

SECRET_PATH = "/services/T0/the-webhook-s-secret"


class Webhook(ThreadingHTTPServer):
    """Takes messages as Slack does, after refusing the first `refused`; `texts` are those it took."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: list[str] = []
        self.refused = 0


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Webhook)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if takes := self.server.refused == 0 and self.path == SECRET_PATH:
            self.server.texts.append(body["text"])
        else:
            self.server.refused -= 1
        self.send_response(200 if takes else 403)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """The test looks at `texts`."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_failures_are_told_once_and_so_is_their_end(
    webhook: Webhook, tmp_path: Path, airflow_metadata: AirflowInstallation
) -> None:
    installation = AirflowInstallation(tmp_path, airflow_python())
    address = f"http://127.0.0.1:{webhook.server_address[1]}{SECRET_PATH}"
    installation.connect("fraud_slack", conn_type="http", password=address)
    installation.copy_metadata(airflow_metadata)
    # Nobody hears of the first failure, and so of its end: the webhook refuses it.
    webhook.refused = 1
    installation.extra["MOODS"] = "bad,good,bad,bad,idle,good"
    log = installation.python_file("alerts.py")

    states = [line.split()[1:3] for line in log.splitlines() if line.startswith("RUN ")]
    assert [mood for mood, _ in states] == installation.extra["MOODS"].split(",")
    assert all((mood == "bad") == ("failed" in state.lower()) for mood, state in states)
    assert sum(line.startswith("ALERT ") and "success" in line.lower() for line in log.splitlines()) == 2
    assert "Not sent by Slack: Slack answered 403" in log
    for hidden in ("secret", "***"):
        assert hidden not in log

    failed, resolved, drift = webhook.texts
    assert failed.startswith(
        "*[critical] moody: work failed*\nValueError: no luck &lt;today&gt;\n\nRun manual__"
    )
    assert "try 2." in failed
    assert "/dags/moody/runs/manual__" in failed
    assert resolved.startswith("*[resolved] moody: work failed*\nIt had happened 2 times within ")
    assert drift.startswith("*[high] Drift of drift_alerts*\nPSI 0.4\n<http")
