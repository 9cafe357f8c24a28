"""The replica of a release waits with little memory: it answers that it is alive, and ready for nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from threading import Thread
from typing import Any

import httpx
import pytest

from config.settings import ApiServerSettings
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api import standby
from fraud_core.canary.lifecycle import Mode
from fraud_embedded.processes.ports import free_ports
from tests.support.waiting import eventually
from tests.unit.test_release_watch import RELEASE


class _Sessions:
    """A database with a release, or none; it may not answer."""

    def __init__(self) -> None:
        self.running: Any = None
        self.problem: Exception | None = None

    def run(self, _work: Any) -> Any:
        if self.problem is not None:
            raise self.problem
        return self.running

    def close(self) -> None:
        """Nothing is open."""


def test_a_replica_waits_for_a_release_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = _Sessions()
    port, metrics = free_ports(2)
    for name, value in {
        "API_PORT": port,
        "API_METRICS_PORT": metrics,
        "API_KEY_ENCRYPTION_SECRET": "a secret of the tests alone",
        "API_REPLICA": "release",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(standby, "Session", lambda *_: sessions)
    monkeypatch.setattr(standby, "POLL_SECONDS", 0.02)
    waiting = Thread(target=standby.wait_for_release, daemon=True)
    waiting.start()
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(trust_env=False) as client:

        def alive() -> bool:
            try:
                return client.get(f"{url}/health/live").content == b'{"status": "ok"}'
            except httpx.TransportError:
                return False

        assert eventually(alive, 10)
        for answer in (client.get(f"{url}/health/ready"), client.post(f"{url}/predict", json={})):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert answer.json()["parts"]["model"]["detail"] == standby.DETAIL
        assert b"process_resident_memory_bytes" in client.get(f"http://127.0.0.1:{metrics}/metrics").content
        # A release by card is not its own, and a database that does not answer says nothing.
        sessions.running = RELEASE
        sessions.problem = DatabaseUnavailable("The database does not answer.")
        waiting.join(0.2)
        sessions.problem = None
        waiting.join(0.2)
        assert waiting.is_alive()
        sessions.running = replace(RELEASE, mode=Mode.HTTP)
        waiting.join(10)
        assert not waiting.is_alive()
        with pytest.raises(httpx.TransportError):
            client.get(f"{url}/health/live")


def test_it_loads_no_model_library() -> None:
    heavy = "{'xgboost', 'onnxruntime', 'mlflow', 'granian', 'scipy', 'pyarrow'}"
    program = f"import sys, fraud_api.__main__; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


def test_every_replica_is_a_main_one_unless_it_is_said() -> None:
    assert ApiServerSettings.model_fields["api_replica"].default == "main"
