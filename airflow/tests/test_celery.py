"""What the scheduler and the workers on Compose are: Airflow's Celery executor with our settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
ASK = """
import json, sys
from environment import complete_environment
complete_environment()
from airflow.providers.celery.executors.celery_executor import app
app.loader.import_default_modules()
names = ("broker_url", "result_backend", "worker_prefetch_multiplier", "task_acks_late", "worker_concurrency")
found = {name: app.conf[name] for name in names}
found["visibility_timeout"] = app.conf.broker_transport_options["visibility_timeout"]
from celery.signals import heartbeat_sent
found["receivers"] = [receiver.__name__ for _, receiver in heartbeat_sent.receivers]
print("ANSWER" + json.dumps(found))
"""


def celery(**environ: str) -> dict[str, Any]:
    """The application as a worker has it, which is given no address of the metadata."""
    given = {name: os.environ[name] for name in ("PATH", "AIRFLOW_HOME", "AIRFLOW_CONFIG")}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=given | {"PYTHONPATH": str(SCRIPTS), "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ANSWER" in done.stdout, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.partition("ANSWER")[2])
    return found


def test_a_worker_has_its_queue_and_its_results_in_redis_and_beats() -> None:
    found = celery(
        AIRFLOW__CELERY__BROKER_URL="redis://redis:6379/0",
        AIRFLOW__CELERY__WORKER_CONCURRENCY="3",
        REDIS_PASSWORD="p@ss",
    )
    assert found == {
        "broker_url": "redis://:p%40ss@redis:6379/0",
        "result_backend": "redis://:p%40ss@redis:6379/1",
        "worker_prefetch_multiplier": 1,
        "task_acks_late": True,
        "worker_concurrency": 3,
        "visibility_timeout": 86400,
        "receivers": ["worker_beats"],
    }
