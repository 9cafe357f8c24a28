"""The release DAG on the real Airflow: refused, withdrawn without traffic, and promoted by it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from config import constants
from fraud_adapters.models.registry import Registry
from fraud_adapters.objectstore import ObjectStore
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.servers.airflow import SCHEDULER
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from tests.dags.test_batch import forget_model
from tests.integration.gateway import gateway
from tests.integration.release_versions import (
    LENIENT,
    RELEASE,
    environment,
    live_traffic,
    trained,
    wrong_way_round,
)
from tests.integration.training_installation import RATE, Installation, store_history
from tests.integration.training_job import small_configuration
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, Run
from tests.support.api_server import ApiServer, ForkedApi
from tests.support.mlflow_users import mlflow_login
from tests.support.server_fixtures import bucket_settings
from tests.support.stored_rows import CREDITCARD
from tests.support.waiting import eventually

DAG: Final = constants.DAG_CANARY
ROWS: Final = 5000
STAGES: Final = (
    "deploy_canary",
    "monitor_canary_metrics",
    "evaluate_canary_performance",
    "increase_traffic",
    "monitor_canary_metrics_50",
    "evaluate_canary_performance_50",
    "promote_to_production",
)
WAY_BACK: Final = ("rollback_to_previous", "send_rollback_alert")
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)


@dataclass
class Ready:
    platform: AirflowPlatform
    champion: str
    worse: str
    better: str

    def alias(self, name: str) -> str | None:
        with Registry(self.platform.stack.mlflow.tracking_uri) as registry:
            return registry.version_of_alias(CREDITCARD.registered_model, name)


@pytest.fixture(scope="module")
def ready(
    platform: AirflowPlatform, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ready]:
    """The platform with three versions, and an API that asks MLflow which of them serves."""
    folder, database, stack = tmp_path_factory.mktemp("release"), platform.database, platform.stack
    begin = datetime.now(UTC) - timedelta(minutes=ROWS + 60)
    made = Simulator(CREDITCARD, population(11, RATE, 0.02), timedelta(days=7)).at(
        "history", [begin + timedelta(minutes=minute) for minute in range(ROWS)]
    )
    store_history(Installation(CREDITCARD, database, mlflow_uri), made.batch, made.labels.tolist())
    trainer = {
        "APP_ENV": "testing",
        "FRAUD_CONTRACT": CREDITCARD.name,
        "DATABASE_URL": database.url("trainer"),
        "MLFLOW_TRACKING_URI": mlflow_uri,
        **mlflow_login("trainer", stack.mlflow.users),
        "S3_ENDPOINT_URL": stack.objectstore.endpoint_url,
        **stack.objectstore.bucket_environment(constants.BUCKET_RUNS),
    }
    with environment(**trainer):
        champion = trained(folder, "--promote", seed=7)
        wrong_way_round(CREDITCARD, database.url("trainer"), folder / "wrong.parquet")
        worse = trained(folder, f"--file={folder / 'wrong.parquet'}", seed=7, gates=LENIENT)
        better = trained(folder, seed=8)
    login = mlflow_login("release", stack.mlflow.users)
    changes = {
        "MLFLOW_TRACKING_URI": mlflow_uri,
        # The version that the API serves before and afterwards, without MLflow, stays in its own cache.
        "MODEL_CACHE_DIR": str(folder / "models"),
        "FRAUD_CONFIG_DIR": str(small_configuration(folder / "config", release=RELEASE)),
        **mlflow_login("api", stack.mlflow.users),
        "MLFLOW_RELEASE_PASSWORD": login["MLFLOW_TRACKING_PASSWORD"],
    }
    api = platform.api
    before = dict(api.extra)
    api.stop()
    api.extra |= changes
    api.start(seconds=PATIENCE_S)
    with environment(**mlflow_login("person", stack.mlflow.users), **stack.mlflow.users):
        assert eventually(lambda: platform.airflow.known(DAG), PATIENCE_S), platform.airflow.import_errors()
        platform.airflow.pause(DAG, paused=False)
        yield Ready(platform, champion, worse, better)
        platform.airflow.pause(DAG, paused=True)
        api.stop()
        api.extra.clear()
        api.extra |= before
        api.start(seconds=PATIENCE_S)
        forget_model(platform, mlflow_uri)
    simulated = "SELECT transaction_id FROM transactions WHERE source = 'simulator'"
    platform.rows(f"DELETE FROM predictions WHERE transaction_id IN ({simulated})")
    platform.rows("DELETE FROM transactions WHERE source = 'simulator'")
    platform.rows("DELETE FROM model_versions WHERE version <> '7' OR mlflow_run_id IS NOT NULL")
    # What the next versions of these numbers find decided about them otherwise.
    platform.rows("ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only")
    platform.rows("DELETE FROM audit_log WHERE subject LIKE %s", f"{CREDITCARD.registered_model}@%")
    platform.rows("ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only")


def states(run: Run, *tasks: str) -> dict[str, str]:
    found = run.tasks
    return {task: found[task] for task in tasks}


def deployments(platform: AirflowPlatform, run: Run) -> list[tuple[Any, ...]]:
    return platform.rows("SELECT version, state FROM deployments WHERE run_id = %s", run.run_id)


def test_a_version_that_is_worse_is_refused_and_the_run_fails(ready: Ready) -> None:
    run = ready.platform.trigger(DAG, {"version": ready.worse})
    run.failed()
    assert states(run, "validate_new_model", *STAGES, *WAY_BACK) == {
        "validate_new_model": "failed",
        **dict.fromkeys(STAGES, "upstream_failed"),
        **dict.fromkeys(WAY_BACK, "skipped"),
    }
    log = run.log("validate_new_model")
    assert f"Version {ready.worse} gets no traffic" in log
    assert "recall differs from the champion's by -0." in log
    assert deployments(ready.platform, run) == [(ready.worse, "refused")]
    assert ready.alias(constants.ALIAS_CHAMPION) == ready.champion


def test_without_traffic_a_version_is_withdrawn_and_people_are_told(ready: Ready) -> None:
    run = ready.platform.trigger(DAG, {"version": ready.better, "canary_percent": 20})
    for task in ("deploy_canary", "monitor_canary_metrics", "rollback_to_previous"):
        run.wait_for(task, "success")
    run.succeeded()
    assert states(run, *STAGES, *WAY_BACK) == {
        **dict.fromkeys(STAGES[:3], "success"),
        **dict.fromkeys(STAGES[3:], "skipped"),
        **dict.fromkeys(WAY_BACK, "success"),
    }
    assert deployments(ready.platform, run) == [(ready.better, "withdrawn")]
    assert "[medium]" in ready.platform.webhook.wait_for(f"Version {ready.better} was withdrawn")
    assert ready.alias(constants.ALIAS_CHAMPION) == ready.champion


def test_a_version_that_keeps_its_promise_becomes_champion(ready: Ready) -> None:
    platform = ready.platform
    with live_traffic(platform.api, CREDITCARD):
        run = platform.trigger(DAG, {"version": ready.better})
        for task in STAGES:
            run.wait_for(task, "success")
        run.succeeded()
    assert states(run, *STAGES, *WAY_BACK) == {
        **dict.fromkeys(STAGES, "success"),
        **dict.fromkeys(WAY_BACK, "skipped"),
    }
    assert deployments(platform, run) == [(ready.better, "promoted")]
    assert ready.alias(constants.ALIAS_CHAMPION) == ready.better
    assert ready.alias(constants.ALIAS_PREVIOUS) == ready.champion
    bucket = ObjectStore(
        bucket_settings(platform.stack.objectstore, constants.BUCKET_RUNS), constants.BUCKET_RUNS
    )
    keys = [key for key in bucket.list(f"runs/{DAG}/") if key.endswith("report.json")]
    stored = [json.loads(bucket.get_bytes(key))["deployment"] for key in keys]
    assert [one["version"] for one in stored if one["run_id"] == run.run_id] == [ready.better]
    assert {one["state"] for one in stored} == {"withdrawn", "promoted"}


@pytest.mark.proof
def test_the_scheduler_dies_twice_in_a_release(ready: Ready) -> None:
    """The former champion is released again; what drives it is killed in each stage."""
    platform = ready.platform
    champion, other = ready.alias(constants.ALIAS_CHAMPION), ready.alias(constants.ALIAS_PREVIOUS)
    assert other is not None
    with live_traffic(platform.api, CREDITCARD):
        run = platform.trigger(DAG, {"version": other})
        for task in ("deploy_canary", "increase_traffic"):
            run.wait_for(task, "success")
            platform.processes[SCHEDULER].restart(signal.SIGKILL)
        run.succeeded()
    assert deployments(platform, run) == [(other, "promoted")]
    assert ready.alias(constants.ALIAS_CHAMPION) == other
    assert ready.alias(constants.ALIAS_PREVIOUS) == champion
    events = platform.rows(
        "SELECT kind, count(*) FROM deployment_events JOIN deployments USING (deployment_id)"
        " WHERE run_id = %s AND kind IN ('opened', 'validated', 'canary', 'widened', 'promoted') GROUP BY 1",
        run.run_id,
    )
    assert dict(events) == dict.fromkeys(("opened", "validated", "canary", "widened", "promoted"), 1)


@contextmanager
def behind_gateway(api: ApiServer, folder: Path) -> Iterator[Any]:
    """The gateway where the API was, for jobs, DAGs and clients; behind it API and replica for releases.

    Gives what clients of the API are made from.
    """
    port, url, extra = api.port, api.url, dict(api.extra)
    api.stop()
    release = ForkedApi(
        api.database_url,
        folder / "release",
        folder / "release.log",
        extra=extra | {"API_REPLICA": "release", "MODEL_CACHE_DIR": str(folder / "release")},
    )
    [api.port] = free_ports(1)
    api.url = f"http://127.0.0.1:{api.port}"
    api.extra["API_CANARY_METRICS_URL"] = f"http://127.0.0.1:{release.metrics_port}"
    try:
        release.start(ready=False, seconds=PATIENCE_S)
        api.start(seconds=PATIENCE_S)
        places = {"canary": release.port, "provider": api.metrics_port, "web": port}
        with gateway(api.port, folder, **places):
            yield SimpleNamespace(url=url)
    finally:
        release.stop()
        api.stop()
        api.port, api.url = port, url
        del api.extra["API_CANARY_METRICS_URL"]
        api.start(seconds=PATIENCE_S)


HTTP_STAGES: Final = (
    *("check_health", "test_endpoints", "shadow_mode", "monitor_shadow", "compare_shadow"),
    *("split_traffic", "monitor_metrics", "compare_metrics"),
    *("widen_traffic", "monitor_metrics_50", "compare_metrics_50", "promote_to_production"),
)


@pytest.mark.proof
def test_over_http_a_version_becomes_champion_by_the_gateways_weights(ready: Ready, tmp_path: Path) -> None:
    platform = ready.platform
    before = ready.alias(constants.ALIAS_CHAMPION)
    version = next(one for one in (ready.better, ready.champion) if one != before)
    dag = constants.DAG_CANARY_HTTP
    assert eventually(lambda: platform.airflow.known(dag), PATIENCE_S), platform.airflow.import_errors()
    platform.airflow.pause(dag, paused=False)
    with behind_gateway(platform.api, tmp_path) as clients, live_traffic(clients, CREDITCARD):
        run = platform.trigger(dag, {"version": version, "canary_percent": 40})
        for task in HTTP_STAGES:
            run.wait_for(task, "success", "failed", "upstream_failed", "skipped")
        run.succeeded()
    platform.airflow.pause(dag, paused=True)
    [(reason,)] = platform.rows("SELECT reason FROM deployments WHERE run_id = %s", run.run_id)
    assert states(run, *HTTP_STAGES, *WAY_BACK) == {
        **dict.fromkeys(HTTP_STAGES, "success"),
        **dict.fromkeys(WAY_BACK, "skipped"),
    }, reason
    assert deployments(platform, run) == [(version, "promoted")]
    assert ready.alias(constants.ALIAS_CHAMPION) == version
    shadows = platform.rows("SELECT count(*) FROM shadow_predictions WHERE model_version = %s", version)
    assert shadows[0][0] > 300
    arms = platform.rows(
        "SELECT traffic_percent, arm, sum(calls)::int FROM release_counts JOIN deployments"
        " USING (deployment_id) WHERE run_id = %s GROUP BY 1, 2",
        run.run_id,
    )
    calls = {(percent, arm): count for percent, arm, count in arms}
    for percent in (40, 50):
        share = calls[percent, "canary"] / (calls[percent, "canary"] + calls[percent, "control"])
        assert abs(share - percent / 100) < 0.1, calls
    bucket = ObjectStore(
        bucket_settings(platform.stack.objectstore, constants.BUCKET_RUNS), constants.BUCKET_RUNS
    )
    names = {key.rpartition("/")[2] for key in bucket.list(f"runs/{dag}/")}
    assert {"endpoints.json", "report.html", "scores.svg", "flagged.svg", "errors.svg", "slow.svg"} <= names
