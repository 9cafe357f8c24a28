"""Prometheus and Alertmanager as they are configured: mail, webhook and sign of life are delivered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest
import yaml
from aiosmtpd.controller import Controller
from prometheus_client import make_wsgi_app

from fraud_embedded.processes.ports import free_ports
from tests.support.api_server import ROOT
from tests.support.stored_rows import Database, run
from tests.support.waiting import eventually
from tests.support.webhook import Webhook, running_webhook

for folder in ("scripts", "plugins"):
    sys.path.append(str(ROOT / "airflow" / folder))
AlertReceiver: Any = import_module("alert_receiver").AlertReceiver
PlatformRecord: Any = import_module("alert_records").PlatformRecord
watch_metrics: Any = import_module("watch_metrics")

pytestmark = [pytest.mark.proof, pytest.mark.timeout(300)]
MONITORING = ROOT / "monitoring"
WAIT_S = 60.0


class Mailbox:
    """Takes mails; the first `later` of them are answered as a server with greylisting does."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.bodies: list[str] = []
        self.later = 1

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if self.later:
            self.later -= 1
            return "451 4.7.1 greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.subjects.append(str(mail["Subject"]))
        self.bodies.append(envelope.content.decode())
        return "250 OK"


def program(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"{names[0]} is not installed: apt-get install prometheus prometheus-alertmanager")


class Running:
    """The addresses, and what has arrived."""

    def __init__(self, mailbox: Mailbox, webhook: Webhook, ports: list[int]) -> None:
        self.mailbox, self.webhook = mailbox, webhook
        self.alertmanager, self.prometheus, self.watch, self.smtp = ports
        self.beats: list[datetime] = []

    def post(self, **labels: str) -> None:
        """Give Alertmanager an alert, as Prometheus does."""
        now = datetime.now(UTC)
        alert = {
            "labels": labels,
            "annotations": {"summary": "p95 is 300 ms", "description": "Too slow.", "runbook": "docs/x.md"},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(seconds=20)).isoformat(),
        }
        url = f"http://127.0.0.1:{self.alertmanager}/api/v2/alerts"
        httpx.post(url, json=[alert], trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def _mailbox() -> Iterator[tuple[Mailbox, int]]:
    mailbox, [port] = Mailbox(), free_ports(1)
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield mailbox, port
    controller.stop()


@pytest.fixture
def running(database: Database, _mailbox: tuple[Mailbox, int], tmp_path: Path) -> Iterator[Running]:
    mailbox, smtp = _mailbox
    programs = program("prometheus-alertmanager", "alertmanager"), program("prometheus")
    address = urlsplit(database.url("watch"))
    record = PlatformRecord(
        {
            "DB_HOST": str(address.hostname),
            "DB_PORT": str(address.port),
            "DB_NAME": address.path[1:],
            "DB_PASSWORD_WATCH": str(address.password),
        }
    )
    with running_webhook() as webhook:
        platform = Running(mailbox, webhook, [*free_ports(3), smtp])
        metrics = make_wsgi_app(watch_metrics.WatchMetrics().registry)
        watch_metrics.serve(
            AlertReceiver(metrics, record.alerts, platform.beats.append),
            {"AIRFLOW_WATCH_METRICS_PORT": str(platform.watch)},
        )
        commands = alertmanager(platform, programs[0], tmp_path), prometheus(platform, programs[1], tmp_path)
        processes = [subprocess.Popen(command, cwd=tmp_path) for command in commands]
        try:
            for port in (platform.alertmanager, platform.prometheus):
                assert eventually(partial(ready, port), WAIT_S), port
            yield platform
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def alertmanager(platform: Running, command: str, folder: Path) -> list[str]:
    """Started with the configuration that `render.sh` writes; only its waits are shorter."""
    variables = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(platform.smtp),
        "SMTP_SECURITY": "none",
        "ALERT_EMAIL_RECIPIENTS": "a@bank.example",
        "SLACK_WEBHOOK_URL": platform.webhook.url,
        "ALERT_RECORD_URL": f"http://127.0.0.1:{platform.watch}/alerts",
        "ALERT_QUIET_HOURS": f"medium={whole_day()}",
    }
    script = MONITORING / "alertmanager" / "render.sh"
    subprocess.run(
        ["sh", str(script), str(folder)], env={"PATH": os.environ["PATH"], **variables}, check=True
    )
    file = folder / "alertmanager.yml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("group_wait: 30s", "group_wait: 1s").replace("5m", "2s"), encoding="utf-8")
    return [
        command,
        f"--config.file={file}",
        f"--storage.path={folder}/alertmanager",
        f"--web.listen-address=127.0.0.1:{platform.alertmanager}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]


def whole_day() -> str:
    """Quiet hours that hold now and for hours to come."""
    now = datetime.now(UTC)
    return f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=6):%H:%M}"


def prometheus(platform: Running, command: str, folder: Path) -> list[str]:
    """Started with our rules; it scrapes the watch."""
    document = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    document["rule_files"] = [str(MONITORING / "prometheus" / "rules.yml")]
    target = [{"targets": [f"127.0.0.1:{platform.alertmanager}"]}]
    document["alerting"]["alertmanagers"] = [{"static_configs": target}]
    watch = [{"targets": [f"127.0.0.1:{platform.watch}"]}]
    document["scrape_configs"] = [{"job_name": "airflow", "static_configs": watch}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return [
        command,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address=127.0.0.1:{platform.prometheus}",
        "--log.level=error",
    ]


def test_mail_webhook_record_and_sign_of_life_arrive(running: Running, database: Database) -> None:
    running.post(alertname="ApiSlow", severity="high")
    running.post(alertname="DeadLetters", severity="medium")
    query = (
        "SELECT title, severity, resolved_at IS NOT NULL FROM alerts WHERE source = 'prometheus' ORDER BY 2"
    )

    def recorded() -> list[tuple[Any, ...]]:
        return run(database.url("readonly"), query)

    assert eventually(lambda: len(running.mailbox.subjects) >= 2, WAIT_S), (
        "firing and resolved, by mail",
        running.mailbox.subjects,
        running.mailbox.later,
    )
    assert "ApiSlow" in running.mailbox.subjects[0]
    assert running.mailbox.later == 0, "it was greylisted first, and sent again"
    assert running.webhook.texts == [] or running.webhook.about("ApiSlow")
    assert eventually(
        lambda: recorded() == [("p95 is 300 ms", "high", True), ("p95 is 300 ms", "medium", True)], WAIT_S
    ), recorded()
    assert not any("DeadLetters" in subject for subject in running.mailbox.subjects), "it is quiet"
    assert eventually(lambda: len(running.beats) > 0, WAIT_S), "Prometheus's own Watchdog came through"
    assert not any("Watchdog" in subject for subject in running.mailbox.subjects)


def test_what_is_not_alertmanager_s_is_refused(running: Running) -> None:
    url = f"http://127.0.0.1:{running.watch}/alerts"
    assert httpx.get(url, trust_env=False).status_code == 405
    for body in (b"{", b"[]", b'{"alerts": [{}]}', b'{"alerts": 3}'):
        assert httpx.post(url, content=body, trust_env=False).status_code == 400, body
    assert httpx.post(url, content=b"", trust_env=False).status_code == 413
    assert (
        "fraud_alert_waiting" in httpx.get(f"http://127.0.0.1:{running.watch}/metrics", trust_env=False).text
    )


def test_the_watch_s_role_can_record_and_read_nothing_else(database: Database) -> None:
    with (
        closing(psycopg2.connect(database.url("watch"))) as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        cursor.execute("DELETE FROM alerts")
