"""Batch prediction on the real Airflow: an interval and a file, a kill, wrong configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import pandas as pd
import psutil
import pytest

from config import constants
from config.services import MLFLOW_ADMIN, mlflow_password
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_embedded.processes.process import StartFailed
from tests.integration.batch_installation import columns_of, register_version, write_csv
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform
from tests.support.api_server import PLAIN, record_version
from tests.support.mlflow_users import mlflow_login
from tests.support.server_fixtures import bucket_settings
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, START, batch
from tests.support.waiting import eventually

DAG: Final = constants.DAG_BATCH
ROWS: Final = 2000
FILE, OUTPUT = (f"s3://{constants.BUCKET_RUNS}/datasets/{name}" for name in ("rows.csv", "scores.parquet"))
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


@dataclass
class Prepared:
    platform: AirflowPlatform
    bucket: ObjectStore
    version: str


@pytest.fixture(scope="module")
def ready(
    platform: AirflowPlatform, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prepared]:
    """The platform with MLflow, a registered model, stored transactions and a file in the bucket."""
    folder = tmp_path_factory.mktemp("batch")
    rows = batch(ROWS, 4, "batch")
    with pytest.MonkeyPatch.context() as patch:
        users = platform.stack.mlflow.users
        for name, value in {**users, **mlflow_login("person", users)}.items():
            patch.setenv(name, value)
        manifest = make_model(folder / "model", CREDITCARD, seed=3)
        version = register_version(CREDITCARD.registered_model, mlflow_uri, folder / "model")
        record_version(platform.database.url("owner"), CREDITCARD, version, manifest.digest())
        with (
            closing(connect(platform.database.url("producer"), "test")) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            store_transactions(cursor, CREDITCARD, rows, "batch test")
        bucket = ObjectStore(
            bucket_settings(platform.stack.objectstore, constants.BUCKET_RUNS), constants.BUCKET_RUNS
        )
        bucket.put_file("datasets/rows.csv", write_csv(folder / "rows.csv", columns_of(rows)))
        assert eventually(lambda: platform.airflow.known(DAG), PATIENCE_S), platform.airflow.import_errors()
        platform.airflow.pause(DAG, paused=False)
        yield Prepared(platform, bucket, version)
        forget_model(platform, mlflow_uri)
    platform.rows("DELETE FROM predictions WHERE role = 'batch'")
    platform.rows("DELETE FROM transactions WHERE source = 'batch test'")
    platform.rows("DELETE FROM model_versions WHERE version = %s", version)


def forget_model(platform: AirflowPlatform, uri: str) -> None:
    """Remove the registered model: the tests of the training begin without one."""
    password = platform.stack.mlflow.users[mlflow_password(MLFLOW_ADMIN)]
    answer = httpx.request(
        "DELETE",
        f"{uri}/api/2.0/mlflow/registered-models/delete",
        json={"name": CREDITCARD.registered_model},
        auth=(MLFLOW_ADMIN, password),
        **PLAIN,
    )
    assert answer.status_code == 200, answer.text


def test_an_interval_is_scored_although_its_job_is_killed(ready: Prepared) -> None:
    platform = ready.platform
    conf = {"data_from": START.isoformat(), "data_to": (START + timedelta(seconds=ROWS)).isoformat()}
    run = platform.trigger(DAG, conf)
    jobs: list[psutil.Process] = []

    def job_is_there() -> bool:
        jobs[:] = [
            process
            for process in psutil.process_iter(["cmdline"])
            if f"--run-id={run.run_id}" in (process.info["cmdline"] or [])
        ]
        return bool(jobs)

    assert eventually(job_is_there, PATIENCE_S), run.tasks
    jobs[0].kill()
    run.wait_for("run_batch_prediction", "up_for_retry")
    run.clear("run_batch_prediction")
    run.succeeded()
    stored = platform.rows(
        "SELECT count(*), count(DISTINCT transaction_id), bool_or(deciding), min(model_version)"
        " FROM predictions WHERE role = 'batch' AND run_id = %s",
        run.run_id,
    )
    assert stored == [(ROWS, ROWS, False, ready.version)]
    assert f"{ROWS:,} of {ROWS:,} transactions scored by version {ready.version}" in run.log(
        "log_batch_completion"
    )
    report = json.loads(ready.bucket.get_bytes(f"runs/{DAG}/{run.run_id}/report.json"))
    assert report["requested_by"] == constants.AIRFLOW_USER
    assert report["counts"]["scored"] == ROWS


def test_a_file_is_scored_into_a_file(ready: Prepared, tmp_path: Path) -> None:
    conf = {"file": FILE, "output": OUTPUT, "model": ready.version, "engine": "onnx"}
    run = ready.platform.trigger(DAG, conf).succeeded()
    ready.bucket.get_file("datasets/scores.parquet", tmp_path / "scores.parquet")
    frame = pd.read_parquet(tmp_path / "scores.parquet")
    assert frame["transaction_id"].tolist() == [f"batch-{number}" for number in range(ROWS)]
    assert "onnx-" in run.log("log_batch_completion")


def test_a_wrong_configuration_creates_no_run(ready: Prepared) -> None:
    before = ready.platform.airflow.runs(DAG)
    for conf in ({}, {"data_from": START.isoformat(), "file": FILE, "output": OUTPUT}, {"file": FILE}):
        with pytest.raises(StartFailed, match="airflow answers 400"):
            ready.platform.trigger(DAG, conf)
    assert ready.platform.airflow.runs(DAG) == before


def test_an_unknown_version_is_named_and_not_tried_again(ready: Prepared) -> None:
    run = ready.platform.trigger(DAG, {"data_from": START.isoformat(), "model": "4711"})
    run.failed()
    assert run.tasks["run_batch_prediction"] == "failed"
    assert "has no registered version 4711; champion is version" in run.log("run_batch_prediction")
