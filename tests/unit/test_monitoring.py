"""What is documented, shown and alerted on is what the services export."""

import importlib
import json
import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from config.metrics import METRICS, table
from fraud_adapters.models.recorded import Reason
from fraud_api.http_server import HEAD_SECONDS
from fraud_api.metrics import REFUSAL_REASONS, SCORING_ROUTES
from fraud_api.metrics import Metrics as ApiMetrics
from fraud_audit.metrics import Metrics as AuditMetrics
from fraud_core.decision import Decision
from fraud_streaming.follow.metrics import Metrics as StreamMetrics

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
DOCUMENTED = {
    metric.name: (metric.kind, frozenset(metric.labels), frozenset(metric.services)) for metric in METRICS
}
# What bounds the values of each label.
BOUNDED = {
    *("method", "route", "status"),  # the routes of the API; others are "unmatched"
    *("decision", "label", "outcome", "cause", "reason", "severity", "state", "job", "part", "gate"),  # enums
    *("topic", "partition"),  # two topics with as many partitions as were set
    *("version", "digest"),  # the one model that is served
    *("dag", "contract", "check", "kind", "feature", "metric"),  # files, and fields of a contract
}
OWN_METRIC = re.compile(r"\b(?:fraud|process)_\w+")


def exported(service: str, registry: CollectorRegistry) -> dict[str, tuple[str, frozenset[str]]]:
    """Name as Prometheus knows it → type and labels, of all that a registry can ever export."""
    kinds = {}
    for collector in list(registry._collector_to_names):
        labels = frozenset(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            labels = frozenset(getattr(family, "_labelnames", labels))
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
        "audit": AuditMetrics().registry,
        "airflow": watch.registry,
    }
    for service, registry in registries.items():
        for name, (kind, labels) in exported(service, registry).items():
            services = together[name][2] if name in together else frozenset[str]()
            together[name] = (kind, labels, services | {service})
    return together


def test_counters_exist_before_their_first_event() -> None:
    registry = ApiMetrics().registry
    for route in SCORING_ROUTES:
        for decision in Decision:
            labels = {"route": route, "decision": decision}
            assert registry.get_sample_value("fraud_api_scored_total", labels) == 0
    source = (ROOT / "services/api/fraud_api/model_holder.py").read_text(encoding="utf-8")
    reasons = {*get_args(Reason), *re.findall(r'(?:VersionRefused|_record_problem)\(\s*"(\w+)"', source)}
    assert reasons == set(REFUSAL_REASONS), "the values of the label are a closed list"
    for reason in reasons:
        assert registry.get_sample_value("fraud_api_model_refused_total", {"reason": reason}) == 0


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No label names a thing of which there is no end."""
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels <= BOUNDED, "say in BOUNDED what bounds the label"
    monkeypatch.syspath_prepend(str(ROOT / "airflow" / "scripts"))
    watch = importlib.import_module("watch_metrics").WatchMetrics()
    watch.show_figures([("fraud_unknown", {}, 1.0), ("fraud_drift_value", {"id": "7"}, 1.0)])
    text = generate_latest(watch.registry).decode()
    assert "fraud_unknown" not in text
    assert 'id="7"' not in text, "a series whose labels are not those of the list is not exported"


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


def test_the_documentation_shows_the_list_of_metrics() -> None:
    assert "\n".join(table()) in DOCUMENT, "python -m config.metrics prints the table for docs/metrics.md"
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_metric_is_documented_as_it_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow's scripts find one another beside themselves.
    monkeypatch.syspath_prepend(str(ROOT / "airflow" / "scripts"))
    assert every() == DOCUMENTED


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_reads_what_exists_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert families(rule["expr"]) <= set(DOCUMENTED)
    page = "AlertPathDead" if rule["alert"] == "Watchdog" else rule["alert"]
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{page}.md"
    expected = {"none"} if rule["alert"] == "Watchdog" else {"medium", "high", "critical"}
    assert rule["labels"]["severity"] in expected


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/runbooks").glob("*.md")), ids=lambda page: str(page.stem)
)
def test_a_runbook_belongs_to_an_alert_and_says_what_to_do(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.stem in {rule["alert"] for rule in rules()}
    assert re.findall(r"^#+ .*", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE) == [
        f"# {page.stem}",
        "## Meaning",
        "## First look",
        "## Fix",
    ]


def test_every_alert_has_a_runbook() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")}
    assert pages == {rule["alert"] for rule in rules()} - {"Watchdog"}


def test_every_alert_is_tried_by_promtool() -> None:
    """`promtool test rules` runs in the stack test; here only that none is left out."""
    tests = (MONITORING / "prometheus" / "rules_test.yml").read_text(encoding="utf-8")
    tried = {
        check["alertname"]
        for test in yaml.safe_load(tests)["tests"]
        for check in test["alert_rule_test"]
        if check.get("exp_alerts")
    }
    assert tried == {rule["alert"] for rule in rules()}


def test_dashboards_show_what_exists() -> None:
    expressions = [
        target["expr"]
        for board in dashboards()
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if "expr" in target
    ]
    assert len(expressions) > 20
    shown = set().union(*(families(one) for one in expressions))
    assert shown <= set(DOCUMENTED)
    shown |= set().union(*(families(rule["expr"]) for rule in rules()))
    # What we export and neither a person nor an alert looks at is not worth exporting; a process's own
    # figures are given anyway.
    assert {name for name in set(DOCUMENTED) - shown if name.startswith("fraud_")} == set()


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
    receiver: dict[str, Any] = document["receivers"][-1]
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
        ({"ALERT_QUIET_HOURS": "critical=20:00-08:00"}, "ALERT_QUIET_HOURS=critical"),
        ({"ALERT_QUIET_HOURS": "medium=20-8"}, "ALERT_QUIET_HOURS=medium=20-8"),
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


def test_the_second_machine_watches_what_vm1_and_the_api_show() -> None:
    text = (MONITORING / "docker-compose.yml").read_text(encoding="utf-8")
    compose = yaml.safe_load(text)
    scraped = yaml.safe_load(re.sub(r"\$\{(\w+)[^}]*\}", r"\1", compose["configs"]["prometheus"]["content"]))
    local = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped["scrape_configs"]}
    # The gateway, its canary and the follower are where the API and the jobs are; they need not run.
    assert jobs.keys() == {job["job_name"] for job in local["scrape_configs"]} - {
        "gateway",
        "api-canary",
        "follower",
    }
    assert scraped["rule_files"] == local["rule_files"]
    vm1 = yaml.safe_load((ROOT / "docker-compose.vm1.yml").read_text(encoding="utf-8"))
    published = {
        port.rpartition(":")[2]
        for service in vm1["services"].values()
        for port in service.get("ports", ())
        if "METRICS_BIND" in port
    }
    at_vm1 = {target.rpartition(":")[2] for [target] in jobs.values() if target.startswith("VM1_ADDRESS")}
    assert at_vm1 <= published
    here = yaml.safe_load((ROOT / "docker-compose.local.yml").read_text(encoding="utf-8"))["services"]
    for name, service in compose["services"].items():
        assert service["image"] == here[name]["image"]
        mounted = [volume.partition(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert all((MONITORING / folder).is_dir() for folder in mounted)
