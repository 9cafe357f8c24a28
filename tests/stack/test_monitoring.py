"""Prometheus scrapes every target and has every documented metric; rules and receivers are valid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.stack.stack import ROOT, Stack, settled, wait_for

TARGETS = {"api", "api-canary", "audit", "airflow", "gateway", "objectstore", "prometheus", "alertmanager"}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|[^|]*\|([^|]*)\|", re.MULTILINE)
DOCUMENTED = {
    name: (kind, services.strip())
    for name, kind, services in ROW.findall((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"))
}
DASHBOARDS = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in (ROOT / "monitoring/grafana/dashboards").glob("*.json")
]
EXPRESSIONS = sorted(
    {
        target["expr"]
        for board in DASHBOARDS
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if "expr" in target
    }
)


def targets(stack: Stack) -> dict[str, dict[str, Any]]:
    active = stack.prometheus("targets", state="active")["activeTargets"]
    return {one["labels"]["job"]: one for one in active}


def known(stack: Stack) -> dict[str, str]:
    """Metric → type of everything that targets have exported."""
    return {name: entries[0]["type"] for name, entries in stack.prometheus("metadata").items()}


def missing(stack: Stack, service: str) -> set[str]:
    documented = {(name, kind) for name, (kind, services) in DOCUMENTED.items() if service in services}
    assert documented
    exported = known(stack)
    return {name for name, kind in documented if _type(exported, name) != kind}


def _type(exported: dict[str, str], name: str) -> str | None:
    # In the text format the family of a counter has the same name as its series.
    return exported.get(name) or exported.get(name.removesuffix("_total"))


def test_every_target_is_up(stack: Stack) -> None:
    expected = TARGETS | ({"grafana"} - set(stack.harness.omitted))

    def down() -> dict[str, str]:
        return {name: one["lastError"] for name, one in targets(stack).items() if one["health"] != "up"}

    wait_for(lambda: set(targets(stack)) == expected and not down(), 60, lambda: f"down: {down()}")


def test_every_documented_metric_of_the_api_is_there(stack: Stack) -> None:
    wait_for(lambda: not missing(stack, "api"), 60, lambda: f"missing: {missing(stack, 'api')}")
    [served] = stack.prometheus("query", query="fraud_api_model_info")["result"]
    [[version]] = stack.psql("SELECT model_version FROM predictions ORDER BY prediction_time DESC LIMIT 1")
    assert served["metric"]["version"] == version

    def scored() -> float:
        series = stack.prometheus("query", query="sum(fraud_api_scored_total)")["result"]
        return float(series[0]["value"][1]) if series else 0.0

    wait_for(lambda: scored() > 0, 60)


def test_every_documented_metric_of_the_dags_is_there(stack: Stack) -> None:
    wait_for(lambda: not missing(stack, "airflow"), 60, lambda: f"missing: {missing(stack, 'airflow')}")


def test_the_dashboards_ask_what_prometheus_understands(stack: Stack) -> None:
    for expression in EXPRESSIONS:
        stack.prometheus("query", query=expression.replace("$__rate_interval", "1m"))


def test_rules_and_receivers_are_valid(stack: Stack) -> None:
    rules = [one["name"] for group in stack.prometheus("rules")["groups"] for one in group["rules"]]
    assert "NoModel" in rules
    checks = ("check config prometheus.yml", "test rules rules_test.yml")
    for verb, subject, file in (check.split() for check in checks):
        check = ["promtool", verb, subject, f"/etc/prometheus/{file}"]
        assert "SUCCESS" in stack.run("docker", "exec", "fraud-prometheus", *check)


def test_prometheus_and_alertmanager_know_each_other(stack: Stack) -> None:
    active = [one["url"] for one in stack.prometheus("alertmanagers")["activeAlertmanagers"]]
    assert active == ["http://alertmanager:9093/api/v2/alerts"]
    status = httpx.get(f"{stack.url('alertmanager')}/api/v2/status", trust_env=False, timeout=30).json()
    assert "receiver: people" in status["config"]["original"]


@pytest.fixture(scope="module")
def without_gateway(stack: Stack) -> Iterator[None]:
    """Prometheus needs two intervals to notice, during which another test runs."""
    stack.compose("stop", "gateway")
    yield
    stack.compose("start", "gateway")
    wait_for(lambda: targets(stack)["gateway"]["health"] == "up", 60)


def test_every_documented_metric_of_the_follower_is_there(stack: Stack) -> None:
    """Runs the follower's profile; without it the follower is not a target, and cannot be down.

    The gateway runs: through it the follower reaches the API, and is not healthy otherwise.
    """
    assert "follower" not in targets(stack)
    stack.compose("--profile", "follow", "up", "-d", "--no-deps", "follower")
    try:
        wait_for(lambda: targets(stack).get("follower", {}).get("health") == "up", 120)
        wait_for(lambda: not missing(stack, "follower"), 60, lambda: f"missing: {missing(stack, 'follower')}")
        wait_for(lambda: not settled(stack.containers()["follower"], "follower"), 60)
    finally:
        stack.compose("--profile", "follow", "rm", "-sf", "follower")
    wait_for(lambda: "follower" not in targets(stack), 60)


@pytest.mark.usefixtures("without_gateway")
def test_a_service_that_is_gone_is_noticed(stack: Stack) -> None:
    wait_for(
        lambda: any(
            one["labels"]["alertname"] == "TargetDown" and one["labels"]["job"] == "gateway"
            for one in stack.prometheus("alerts")["alerts"]
        ),
        120,
    )
