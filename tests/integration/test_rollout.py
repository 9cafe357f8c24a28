"""The rollout's verbs against the real API, Postgres, MLflow and object store, with trained versions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from config import constants
from config.job_results.common import EXIT_FAILED
from config.job_results.rollout import EndResult, EvaluationResult, StatusResult, ValidationResult
from config.settings import ApiClientSettings, ObjectStoreSettings
from fraud_adapters.api_session import ApiRefused, ApiSession
from fraud_adapters.deployments_client import DeploymentsClient
from fraud_adapters.job import NothingToDo
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.models.registry import Registry
from fraud_adapters.objectstore import ObjectStore
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from fraud_rollout.chosen_deployment import NoDeployment
from fraud_rollout.job import main
from tests.integration.batch_installation import environment as job_environment
from tests.integration.release_versions import (
    LENIENT,
    RELEASE,
    environment,
    live_traffic,
    trained,
    wrong_way_round,
)
from tests.integration.training_installation import (
    CREDITCARD,
    RATE,
    Installation,
    installed,
    store_history,
)
from tests.integration.training_job import small_configuration
from tests.support.api_server import CLIENTS, ApiServer, ForkedApi, cloned, record_version, wait_until
from tests.support.mlflow_users import mlflow_login
from tests.support.stored_rows import START, run
from tests.support.typed_results import mismatches

ROWS = 6000
SECRET = "the rollout's secret"
DAG = constants.DAG_CANARY
# The history happened long ago.
ROLLOUT = {
    "agreement": {"window": "P3650D", "rows": 2000, "max_changed": 0.5},
    "replay": {"history": "P3650D", "rows": 100_000, "confidence": 0.99},
    "latency": {"ratio": 20, "ratio_from_ms": 20, "singles": 60, "batches": 12, "batch_rows": 500},
}


@dataclass
class Release:
    """An installation with a champion, a better and a worse version, and the API that serves it."""

    installation: Installation
    server: ApiServer
    store: ObjectStoreSettings
    folder: Path
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.installation.contract.registered_model

    @contextmanager
    def client(self) -> Iterator[DeploymentsClient]:
        with ApiSession(ApiClientSettings()) as session:
            yield DeploymentsClient(session)

    def champion(self) -> str | None:
        with Registry(self.installation.mlflow_uri) as registry:
            return registry.version_of_alias(self.name, constants.ALIAS_CHAMPION)

    def file(self, run_id: str, name: str) -> bytes:
        return ObjectStore(self.store, constants.BUCKET_RUNS).get_bytes(f"runs/{DAG}/{run_id}/{name}")


@pytest.fixture(scope="module")
def release(
    template: Any,
    postgres_admin_url: str,
    mlflow_uri: str,
    object_store: ObjectStoreSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("rollout")
    with (
        cloned(template, postgres_admin_url, "rollout") as database,
        installed(CREDITCARD, database, mlflow_uri, object_store, folder) as installation,
    ):
        people = population(11, RATE, 0.02)
        moments = [START + timedelta(minutes=minute) for minute in range(ROWS)]
        made = Simulator(installation.contract, people, timedelta(days=7)).at("history", moments)
        store_history(installation, made.batch, made.labels.tolist())
        versions = {"champion": trained(folder, "--promote", seed=7)}
        wrong_way_round(installation.contract, database.url("trainer"), folder / "wrong.parquet")
        wrong = f"--file={folder / 'wrong.parquet'}"
        versions["worse"] = trained(folder, wrong, seed=7, gates=LENIENT)
        versions["better"] = trained(folder, seed=8)
        configuration = small_configuration(folder / "config", release=RELEASE, rollout=ROLLOUT)
        server = ForkedApi(
            database.url("api"),
            folder / "models",
            folder / "api.log",
            installation.contract.name,
            {
                "MLFLOW_TRACKING_URI": mlflow_uri,
                "FRAUD_CONFIG_DIR": str(configuration),
                "FRAUD_CONTRACTS_DIR": str(folder),
            },
        )
        server.start()
        try:
            with environment(
                FRAUD_CONFIG_DIR=str(configuration),
                DATABASE_URL=database.url("rollout"),
                API_URL=server.url,
                API_CLIENT_ID="rollout",
                API_CLIENT_SECRET=CLIENTS["rollout"],
                **mlflow_login("rollout"),
            ):
                yield Release(installation, server, object_store, folder, versions)
        finally:
            server.stop()


@pytest.fixture(autouse=True)
def nothing_left_running(release: Release) -> Iterator[None]:
    yield
    with release.client() as api:
        for one in api.latest():
            if one["ended_at"] is None:
                api.abort(one["deployment_id"], "The test is over.")
    wait_until(lambda: release.server.metric("fraud_api_canary_percent") == 0, release.server)


def outcomes(result: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in result["findings"]}


def test_a_better_version_is_validated(release: Release) -> None:
    result = main(["validate", "--run-id=first"])
    assert list(mismatches(ValidationResult, result)) == []
    assert result["version"] == release.versions["better"]
    assert (result["state"], result["previous_version"]) == ("validated", release.versions["champion"])
    assert outcomes(result) == dict.fromkeys(
        (
            *("files", "memory", "outputs", "engines", "single_rows", "example", "mlflow_model"),
            *("latency_single", "latency_single_ratio", "latency_batch", "latency_batch_ratio"),
            *("agreement", "replay_recall", "replay_fpr"),
        ),
        "passed",
    )
    # The trainer holds back the latest 22 % of the history: none of it was learnt from.
    paired = result["paired"]
    assert paired["frauds"] + paired["legitimate"] == pytest.approx(0.22 * ROWS, rel=0.02)
    assert paired["both"] > 0.8 * paired["frauds"]
    stored = json.loads(release.file("first", "validation.json"))
    assert (stored["passed"], stored["paired"]) == (True, paired)
    again = main(["validate", "--run-id=first"])
    assert again["deployment_id"] == result["deployment_id"]
    assert outcomes(again) == outcomes(result)
    with pytest.raises(ApiRefused, match="409, Another release is running"):
        main(["validate", "--run-id=second"])


def test_a_version_that_is_the_wrong_way_round_is_refused(release: Release) -> None:
    with pytest.raises(RefusedFailure, match="gets no traffic") as refused:
        main(["validate", "--run-id=wrong", f"--version={release.versions['worse']}"])
    result = refused.value.result
    found = outcomes(result)
    assert result["state"] == "refused"
    assert (found["agreement"], found["replay_recall"], found["replay_fpr"]) == ("failed",) * 3
    assert "recall differs from the champion's by -0." in str(refused.value)
    with pytest.raises(RefusedFailure, match="gets no traffic"):
        main(["validate", "--run-id=wrong"])
    with pytest.raises(NothingToDo, match="is refused already"):
        main(["rollback", "--run-id=wrong"])


def test_what_must_not_serve_is_refused_before_a_deployment_is_opened(release: Release) -> None:
    owner, contract = release.installation.database.url("owner"), release.installation.contract
    record_version(owner, contract, "98", "0" * 64, passed=False)
    refused = {
        "97": "422, The version must not serve: Version 97 is not in model_versions",
        "98": "422, The version must not serve: Version 98 did not pass the gate",
        release.versions["champion"]: "is the champion already",
    }
    for version, sentence in refused.items():
        with pytest.raises(ApiRefused, match=sentence):
            main(["validate", f"--run-id=not-{version}", f"--version={version}"])
        with pytest.raises(NothingToDo, match="has opened no deployment"):
            main(["rollback", f"--run-id=not-{version}"])
    with pytest.raises(NoDeployment, match="No deployment is running"):
        main(["observe"])


def test_files_that_were_exchanged_since_are_refused(release: Release) -> None:
    version, owner = release.versions["better"], release.installation.database.url("owner")
    with release.client() as api:
        api.open(version, "exchanged")
    statement = "UPDATE model_versions SET digest = %s WHERE name = %s AND version = %s RETURNING 1"
    [(digest,)] = run(
        owner, "SELECT digest FROM model_versions WHERE name = %s AND version = %s", release.name, version
    )
    run(owner, statement, "0" * 64, release.name, version)
    try:
        with pytest.raises(RefusedFailure, match=r"The model's digest is .* as registered") as refused:
            main(["validate", "--run-id=exchanged"])
    finally:
        run(owner, statement, digest, release.name, version)
    assert outcomes(refused.value.result) == {"files": "failed"}


def test_a_slow_or_large_version_is_refused(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = {**RELEASE["judgement"], "max_latency_ms": 0.0001}
    strict = small_configuration(
        release.folder / f"strict-{uuid4().hex[:6]}",
        release={**RELEASE, "judgement": judgement},
        rollout={**ROLLOUT, "max_memory_mib": 0.0001},
    )
    monkeypatch.setenv("FRAUD_CONFIG_DIR", str(strict))
    with pytest.raises(
        RefusedFailure, match=r"One transaction takes .* The p99 may be 0\.0001 ms"
    ) as refused:
        main(["validate", "--run-id=slow"])
    found = outcomes(refused.value.result)
    assert (found["latency_single"], found["latency_batch"], found["memory"]) == ("failed",) * 3
    assert found["replay_recall"] == "passed"


def test_a_verb_that_is_killed_is_repeated(release: Release) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fraud_rollout", "validate", "--run-id=killed"],
        env=job_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as lines:
        assert any('"name":"files"' in line for line in lines)
        process.kill()
    process.wait()
    with release.client() as api:
        [before] = [one for one in api.latest() if one["run_id"] == "killed"]
    assert before["state"] == "validating"
    result = main(["validate", "--run-id=killed"])
    assert (result["deployment_id"], result["state"]) == (before["deployment_id"], "validated")


def test_a_refusal_is_one_sentence_and_an_exit_code(release: Release) -> None:
    assert release.versions
    done = subprocess.run(
        [sys.executable, "-m", "fraud_rollout", "validate", "--run-id=code", "--version=97"],
        env=job_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_FAILED
    assert done.stderr.splitlines()[-1].startswith("failed: The API refuses POST /deployments: 422")
    result = json.loads(done.stdout)
    assert (result["status"], result["failure"]) == ("failed", "refused")


def test_a_canary_is_withdrawn_or_stopped_by_its_driver(release: Release) -> None:
    main(["validate", "--run-id=withdrawn"])
    deployed = main(["deploy", "--run-id=withdrawn"])
    assert (deployed["state"], deployed["traffic_percent"]) == ("canary", 10)
    assert main(["deploy", "--run-id=withdrawn", "--percent=10"])["state"] == "canary"
    wait_until(lambda: release.server.metric("fraud_api_canary_percent") == 10, release.server)
    with pytest.raises(ApiRefused, match="409"):
        main(["promote", "--run-id=withdrawn"])
    ended = main(["rollback", "--run-id=withdrawn"])
    assert list(mismatches(EndResult, ended)) == []
    assert (ended["state"], ended["severity"]) == ("withdrawn", "medium")
    again = main(["rollback", "--run-id=withdrawn"])
    assert (again["state"], again["text"]) == ("withdrawn", ended["text"])
    wait_until(lambda: release.server.metric("fraud_api_canary_percent") == 0, release.server)
    assert release.champion() == release.versions["champion"]

    main(["validate", "--run-id=stopped"])
    main(["deploy", "--run-id=stopped"])
    stopped = main(["abort", "--reason=It is Friday."])
    assert (stopped["state"], stopped["text"]) == ("aborted", "It is Friday.")


def test_a_better_version_becomes_champion(release: Release) -> None:
    main(["validate", "--run-id=whole"])
    with live_traffic(release.server, release.installation.contract):
        main(["deploy", "--run-id=whole"])
        first = main(["evaluate", "--run-id=whole", "--wait", "--every=0.5s"])
        assert list(mismatches(EvaluationResult, first)) == []
        assert (first["next"], first["verdict"]) == ("advance", "promote"), first
        assert main(["deploy", "--run-id=whole"])["traffic_percent"] == 50
        [line] = main(["observe"])["lines"]
        assert "50 %" in line
        second = main(["evaluate", "--run-id=whole", "--wait", "--every=0.5s"])
        assert second["next"] == "advance", second
        promoted = main(["promote", "--run-id=whole"])
    assert (promoted["state"], promoted["severity"]) == ("promoted", "none")
    assert release.champion() == release.versions["better"]
    assert main(["promote", "--run-id=whole"])["state"] == "promoted"
    with pytest.raises(NothingToDo, match="is promoted already"):
        main(["rollback", "--run-id=whole"])
    report = release.file("whole", "report.md").decode()
    assert "## At 10 % of the traffic\n\nVerdict: promote." in report
    assert "## At 50 % of the traffic\n\nVerdict: promote." in report
    assert "| replay_recall | passed |" in report
    assert release.file("whole", "scores.svg").startswith(b"<?xml")
    assert json.loads(release.file("whole", "report.json"))["deployment"]["state"] == "promoted"
    listed = main(["status"])
    assert list(mismatches(StatusResult, listed)) == []
    assert {one["state"] for one in listed["deployments"]} >= {"promoted", "withdrawn", "aborted", "refused"}
