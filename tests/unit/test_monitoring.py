"""What is documented, shown and alerted on is what the services export."""

import json
import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from fraud_api.http_server import HEAD_SECONDS
from fraud_api.metrics import Metrics as ApiMetrics
from fraud_streaming.follow.metrics import Metrics as StreamMetrics

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|", re.MULTILINE)
DOCUMENTED = {
    name: (kind, frozenset(labels.replace(",", " ").split()), frozenset(services.replace(",", " ").split()))
    for name, kind, labels, services in ROW.findall(DOCUMENT)
}
OWN_METRIC = re.compile(r"\b(?:fraud|process)_\w+")


def exported(service: str, registry: CollectorRegistry) -> dict[str, tuple[str, frozenset[str]]]:
    """Name as Prometheus knows it → type and labels, of all that a registry can ever export."""
    kinds = {}
    for collector in list(registry._collector_to_names):
        labels = frozenset(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            kinds[name] = (family.type, labels)
    assert kinds, service
    return kinds


def every() -> dict[str, tuple[str, frozenset[str], frozenset[str]]]:
    together: dict[str, tuple[str, frozenset[str], frozenset[str]]] = {}
    watch = runpy.run_path(str(ROOT / "airflow" / "scripts" / "watch_metrics.py"))["WatchMetrics"]()
    registries = {
        "api": ApiMetrics().registry,
        "follower": StreamMetrics().registry,
        "airflow": watch.registry,
    }
    for service, registry in registries.items():
        for name, (kind, labels) in exported(service, registry).items():
            services = together[name][2] if name in together else frozenset[str]()
            together[name] = (kind, labels, services | {service})
    return together


def families(expression: str) -> set[str]:
    """The metrics of ours that an expression reads; a histogram's parts count as the histogram."""
    known = set(DOCUMENTED)
    names = set(OWN_METRIC.findall(expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in known else name for name in names}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboards() -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text(encoding="utf-8")) for path in MONITORING.glob("grafana/dashboards/*.json")
    ]


def test_every_metric_is_documented_as_it_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow's scripts find one another beside themselves.
    monkeypatch.syspath_prepend(str(ROOT / "airflow" / "scripts"))
    assert every() == DOCUMENTED


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_reads_what_exists_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert families(rule["expr"]) <= set(DOCUMENTED)
    assert rule["annotations"]["runbook"] == f"docs/metrics.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in DOCUMENT
    assert rule["labels"]["severity"] in {"medium", "high", "critical"}


def test_every_alert_is_tried_by_promtool() -> None:
    """`promtool test rules` runs in the stack test; here only that none is left out."""
    tests = (MONITORING / "prometheus" / "rules_test.yml").read_text(encoding="utf-8")
    tried = set(re.findall(r"#(\w+)$", tests, re.MULTILINE))
    assert tried == {rule["alert"].lower() for rule in rules()}


def test_dashboards_show_what_exists() -> None:
    expressions = [
        target["expr"] for board in dashboards() for panel in board["panels"] for target in panel["targets"]
    ]
    assert len(expressions) > 20
    shown = set().union(*(families(one) for one in expressions))
    assert shown <= set(DOCUMENTED)
    shown |= set().union(*(families(rule["expr"]) for rule in rules()))
    # What we export and neither a person nor an alert looks at is not worth exporting; a process's own
    # figures are given anyway.
    unseen = {name for name in set(DOCUMENTED) - shown if name.startswith("fraud_")}
    assert unseen <= {"fraud_stream_partitions", "fraud_stream_batch_seconds", "fraud_stream_batch_rows"} | {
        "fraud_stream_classes_refreshed_total"
    }


def test_the_gateway_drops_a_connection_before_the_api_does() -> None:
    routes = yaml.safe_load(
        (ROOT / "services" / "gateway" / "traefik" / "routes.yml").read_text(encoding="utf-8")
    )
    timeouts = routes["http"]["serversTransports"]["api"]["forwardingTimeouts"]
    assert int(timeouts["idleConnTimeout"].removesuffix("s")) < HEAD_SECONDS


def rendered(folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What `render.sh` says, and the receiver it writes."""
    script = MONITORING / "alertmanager" / "render.sh"
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(
        ["sh", str(script), str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    written = folder / "alertmanager.yml"
    document = (
        yaml.safe_load(written.read_text(encoding="utf-8")) if written.exists() else {"receivers": [{}]}
    )
    receiver: dict[str, Any] = document["receivers"][0]
    return done, receiver


def test_without_a_channel_alertmanager_only_shows_alerts(tmp_path: Path) -> None:
    done, receiver = rendered(tmp_path, SMTP_HOST="", ALERT_EMAIL_RECIPIENTS="", SLACK_WEBHOOK_URL="")
    assert receiver == {"name": "people"}
    assert "sent nowhere" in done.stderr


def test_alertmanager_gets_its_channels_from_the_environment(tmp_path: Path) -> None:
    password = 'it\'s #1: "quoted" \\ $HOME'
    done, receiver = rendered(
        tmp_path,
        SMTP_HOST="mail.example.org",
        SMTP_USER="o'brien",
        SMTP_PASSWORD=password,
        SMTP_SECURITY="none",
        ALERT_EMAIL_RECIPIENTS="a@example.org,b@example.org",
        SLACK_WEBHOOK_URL="https://hooks.example.org/x",
    )
    assert (done.returncode, done.stderr) == (0, "")
    mail = receiver["email_configs"][0]
    assert (mail["to"], mail["smarthost"]) == ("a@example.org,b@example.org", "mail.example.org:587")
    assert (mail["auth_username"], mail["require_tls"]) == ("o'brien", False)
    assert Path(mail["auth_password_file"]).read_text(encoding="utf-8") == password
    assert Path(receiver["slack_configs"][0]["api_url_file"]).read_text(encoding="utf-8").endswith("/x")
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    assert password not in (tmp_path / "alertmanager.yml").read_text(encoding="utf-8")


def test_a_secret_may_come_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("https://hooks.example.org/y\n", encoding="utf-8")
    _, receiver = rendered(tmp_path / "out", SLACK_WEBHOOK_URL_FILE=str(tmp_path / "hook"))
    assert Path(receiver["slack_configs"][0]["api_url_file"]).read_text(encoding="utf-8").endswith("/y")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SMTP_SECURITY": "ssl"}, "SMTP_SECURITY=ssl"),
        ({"SMTP_SECURITY": "tls"}, "SMTP_SECURITY=tls"),
        ({"ALERT_REPEAT_MINUTES": "1h"}, "ALERT_REPEAT_MINUTES=1h"),
        ({"SMTP_PASSWORD_FILE": "/nowhere"}, "SMTP_PASSWORD_FILE"),
    ],
)
def test_what_alertmanager_cannot_do_is_refused(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    done, _ = rendered(tmp_path, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "alertmanager.yml").exists()
