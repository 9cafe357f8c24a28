"""Helpers of batch prediction's tests: an installation with a registered model, and files of transactions."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from config.parameters import read_yaml
from config.settings import CONFIG_DIR, ObjectStoreSettings
from fraud_adapters.models.loading import Model
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import ARTEFACT_PATH
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_transactions
from fraud_batch.job import main
from fraud_core.batch import Batch
from fraud_core.features import feature_matrix
from tests.integration.training_installation import CREDITCARD, Installation, installed
from tests.support.api_server import record_version
from tests.support.mlflow_users import mlflow_login
from tests.support.small_model import make_model
from tests.support.stored_rows import Database, batch, run

CHUNK: Final = 200  # rows: several chunks of few rows


@dataclass(frozen=True)
class BatchInstallation:
    """An installation whose champion is a small model."""

    installation: Installation
    version: str
    model: Model

    @property
    def database(self) -> Database:
        return self.installation.database

    def expected(self, rows: Batch) -> Any:
        """What the model scores, by the engine of batches."""
        return self.model.score_batch(feature_matrix(self.installation.contract, rows)).values

    def store(self, rows: Batch) -> None:
        with (
            closing(connect(self.database.url("producer"), "test")) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            store_transactions(cursor, self.installation.contract, rows, "simulator")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return run(self.database.url("owner"), statement, *values)


def register_version(name: str, uri: str, directory: Path) -> str:
    with pytest.MonkeyPatch.context() as patch, MlflowHttp(uri, _login("trainer")) as http:
        for variable, value in mlflow_login("trainer").items():
            patch.setenv(variable, value)
        writer = RegistryWriter(uri)
        run_id = TrackedRuns(http).open(name, f"runs/test/{name}/{directory.name}", "a run", {})
        writer.log_files(run_id, directory, ARTEFACT_PATH)
        version = writer.register(name, run_id, {})
        writer.set_alias(name, "champion", version)
    return version


def _login(user: str) -> tuple[str, str]:
    login = mlflow_login(user)
    return login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"]


@contextmanager
def batch_installation(
    database: Database, mlflow_uri: str, store: ObjectStoreSettings, folder: Path
) -> Iterator[BatchInstallation]:
    """An installation of the contract creditcard under a name of its own; this process is its batch job."""
    with (
        pytest.MonkeyPatch.context() as patch,
        installed(CREDITCARD, database, mlflow_uri, store, folder) as installation,
    ):
        manifest = make_model(folder / "model", installation.contract)
        version = register_version(installation.contract.registered_model, mlflow_uri, folder / "model")
        record_version(database.url("owner"), installation.contract, version, manifest.digest())
        configuration = read_yaml(CONFIG_DIR / "config.yaml") | {"batch": {"chunk_rows": CHUNK, "threads": 2}}
        (folder / "config").mkdir()
        (folder / "config" / "config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        environment = {"DATABASE_URL": database.url("batch"), "FRAUD_CONFIG_DIR": str(folder / "config")}
        for name, value in (environment | mlflow_login("batch")).items():
            patch.setenv(name, value)
        yield BatchInstallation(
            installation, version, Model.load(folder / "model", manifest.digest(), installation.contract)
        )


def score(*options: str) -> Any:
    return main(["score", *options])


def transactions(n: int, *, seed: int = 3) -> Batch:
    """Transactions of the contract creditcard, a second apart."""
    return batch(n, seed)


def columns_of(rows: Batch) -> dict[str, Sequence[Any]]:
    return {"transaction_id": rows.ids, **{name: values.tolist() for name, values in rows.columns.items()}}


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    pq.write_table(pa.table(dict(columns)), path, row_group_size=300)
    return path


def environment() -> dict[str, str]:
    """Of a process that is started as the job."""
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
