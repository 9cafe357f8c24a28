"""Which files of runs `clean` removes or keeps, and the reasons it gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from config import constants
from config.constants import DAG_BATCH
from config.job_results.trainer import CleanResult
from config.settings import ObjectStoreSettings
from fraud_adapters.job import scratch
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.models.loading import Model
from fraud_adapters.models.registry import Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.objectstore import ObjectStore
from fraud_trainer.cleaning import clean
from fraud_trainer.job import cleaning_context, main
from tests.integration.training_installation import Installation
from tests.integration.training_job import small_installation, statuses
from tests.support.mlflow_users import mlflow_login
from tests.support.stored_rows import Database, run
from tests.support.typed_results import mismatches

ROOT = "runs/01_training_pipeline"
DOCUMENTS = {
    f"{name}.json" for name in ("load", "features", "train", "validate", "manifest", "profile", "register")
}
DATA = {"examples.parquet", "features.parquet", "model.ubj", "model.onnx"}


@pytest.fixture
def bucket(object_store: ObjectStoreSettings) -> ObjectStore:
    """By its own key, which is all the trainer has."""
    return ObjectStore(object_store, constants.BUCKET_RUNS)


@pytest.fixture
def installation(
    database: Database,
    mlflow_uri: str,
    object_store: ObjectStoreSettings,
    tmp_path: Path,
) -> Iterator[Installation]:
    with small_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The folder of the jobs' temporary directories; other tests have theirs in the machine's."""
    folder = tmp_path / "local"
    folder.mkdir()
    return folder


def _clean(days: float, temporary: Path, *, dry_run: bool = False) -> CleanResult:
    """Clean as if it were days later."""
    with cleaning_context(datetime.now(UTC) + timedelta(days=days)) as context:
        result = clean(replace(context, temporary=temporary), dry_run=dry_run)
    assert list(mismatches(CleanResult, result)) == []
    return result


def _remaining(bucket: ObjectStore) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for key in bucket.list("runs/"):
        folder, _, name = key.rpartition("/")
        names.setdefault(folder.removeprefix(f"{ROOT}/"), set()).add(name)
    return names


def _why(result: CleanResult, which: Literal["removed", "kept"]) -> dict[str, str]:
    return {line["run"].removeprefix(f"{ROOT}/"): line["why"] for line in result[which]}


def test_what_no_version_needs_goes_after_a_time(
    installation: Installation, bucket: ObjectStore, temporary: Path, tmp_path: Path
) -> None:
    for name in ("champion", "older", "newer"):
        main(["run", "--run-id", name])
    for verb in ("load", "features", "train"):
        main([verb, "--run-id", "abandoned"])
    main(["load", "--run-id", "begun:1/2"])
    bucket.put_bytes("runs/another_dag/x/report.json", b"{}")
    bucket.put_bytes("runs/note.txt", b"nobody's")
    for name in ("report.json", "parts/0.arrow"):
        bucket.put_bytes(f"runs/{DAG_BATCH}/scored/{name}", b"{}")
    (temporary / f"{scratch.PREFIX}killed").mkdir()
    before = _remaining(bucket)

    # Possibly still in progress.
    assert main(["clean"])["removed"] == []
    assert _clean(0.9, temporary)["mlflow_runs_ended"] == []
    assert (_remaining(bucket), statuses(installation)[-1]) == (before, "RUNNING")

    # Abandoned, but recent.
    assert len(_clean(2, temporary, dry_run=True)["mlflow_runs_ended"]) == 1
    assert statuses(installation)[-1] == "RUNNING"
    os.utime(temporary / f"{scratch.PREFIX}killed", (0, 0))
    result = _clean(2, temporary)
    assert (result["removed"], len(result["mlflow_runs_ended"])) == ([], 1)
    assert (_remaining(bucket), statuses(installation)) == (before, ["FINISHED"] * 3 + ["KILLED"])
    assert (result["directories_removed"], list(temporary.iterdir())) == (1, [])

    planned = _clean(8, temporary, dry_run=True)
    assert _remaining(bucket) == before
    result = _clean(8, temporary)
    assert result == {**planned, "dry_run": False}
    assert _remaining(bucket) == {
        "champion": DOCUMENTS | DATA,
        "older": DOCUMENTS,
        "newer": DOCUMENTS | DATA,
        "runs": {"note.txt"},
        f"runs/{DAG_BATCH}/scored": {"report.json"},
    }
    name = installation.contract.registered_model
    assert _why(result, "removed") == {
        "older": "version 2 has no alias, and MLflow holds its files",
        "abandoned": "no model version was made of it",
        "begun:1%2F2": "no model version was made of it",
        "runs/another_dag/x": "no model version was made of it",
        f"runs/{DAG_BATCH}/scored": "the report of a batch prediction",
    }
    assert bucket.get_bytes(f"runs/{DAG_BATCH}/scored/report.json") == b"{}"
    assert _why(result, "kept") == {
        "champion": f"version 1 of {name} is champion",
        "newer": f"version 3 of {name} is challenger",
        "older": "version 2 has no alias, and MLflow holds its files",
        f"runs/{DAG_BATCH}/scored": "the report of a batch prediction",
    }
    assert result["removed_bytes"] > sum(line["bytes"] for line in result["kept"]) / 10
    again = _clean(8, temporary)
    assert (again["removed"], again["removed_bytes"], again["mlflow_runs_ended"]) == ([], 0, [])
    assert _why(again, "kept")["older"] == "the documents of a registered run"

    # What is kept is enough: to register again, and to serve the version whose run's files are gone.
    assert main(["register", "--run-id", "champion"])["register"]["version"] == "1"
    ((digest,),) = run(
        installation.database.url("owner"), "SELECT digest FROM model_versions WHERE version = '2'"
    )
    with Registry(installation.mlflow_uri) as registry:
        Model.load(registry.download(name, "2", tmp_path / "served"), digest, installation.contract)
    with pytest.raises(JobFailed, match=r"features\.parquet is missing: .* another run id"):
        main(["register", "--run-id", "older"])


def test_files_of_a_version_that_mlflow_or_the_record_lacks_stay(
    installation: Installation, bucket: ObjectStore, temporary: Path
) -> None:
    for name in ("lost", "unrecorded", "champion"):
        main(["run", "--run-id", name, "--promote"])
    client, model = RegistryWriter(installation.mlflow_uri)._client, installation.contract.registered_model
    client.delete_registered_model_alias(model, constants.ALIAS_PREVIOUS)
    with pytest.MonkeyPatch.context() as patch:
        # The trainer deletes no version.
        for variable, value in mlflow_login("admin").items():
            patch.setenv(variable, value)
        client.delete_model_version(model, "1")
    run(installation.database.url("admin"), "DELETE FROM model_versions WHERE version = '2'")
    before = _remaining(bucket)
    result = _clean(30, temporary)
    assert (result["removed"], _remaining(bucket)) == ([], before)
    assert _why(result, "kept") == {
        "lost": f"MLflow does not hold the files of version 1 of {model}",
        "unrecorded": f"version 2 of {model} is not recorded: run register again",
        "champion": f"version 3 of {model} is champion",
    }


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "DATABASE_URL"])
def test_what_is_not_known_to_be_needless_is_not_removed(
    installation: Installation,
    bucket: ObjectStore,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    main(["load", "--run-id", "begun"])
    before = _remaining(bucket)
    monkeypatch.setenv(
        variable, "http://127.0.0.1:9" if "URI" in variable else "postgresql://a:b@127.0.0.1:9/x"
    )
    with pytest.raises(Exception, match=r"MLflow at|Postgres is not available"):
        _clean(30, temporary)
    assert _remaining(bucket) == before
