"""Reading and writing the registry against a real MLflow server."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import (
    ARTEFACT_PATH,
    ArtefactRefused,
    Registry,
    RegistryFailure,
    RegistryUnavailable,
)
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_core.manifest import FILE_NAME, Calibration, Manifest
from tests.support.stored_rows import START


def _files(directory: Path) -> Manifest:
    """A version's directory; the registry does not look into the files."""
    contents = {"model.ubj": b"trees \x00\x01", "model.onnx": b"nodes" * 100_000}
    manifest = Manifest(
        contract="any",
        contract_version=1,
        features=("a",),
        threshold=0.5,
        block_threshold=0.9,
        threshold_rule="by hand",
        calibration=Calibration(slope=1, intercept=0),
        metrics={},
        data_from=START,
        data_to=START,
        created_at=START,
        code_version="test",
        engines={"xgboost": "model.ubj", "onnx": "model.onnx"},
        digests=dict.fromkeys(contents, "0" * 64),
    )
    for name, content in {**contents, FILE_NAME: manifest.to_json()}.items():
        (directory / name).write_bytes(content)
    return manifest


def test_a_version_goes_there_and_back(mlflow_uri: str, tmp_path: Path) -> None:
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    (tmp_path / "made").mkdir()
    _files(tmp_path / "made")
    writer = RegistryWriter(mlflow_uri)
    with Registry(mlflow_uri) as registry, MlflowHttp(mlflow_uri) as http:
        assert registry.version_of_alias(name, "champion") is None

        runs, folder = TrackedRuns(http), f"runs/test/{name}:+%2F"
        assert runs.find(folder) == []
        run_id = runs.open(name, folder, "a run", {"contract": "any/1"})
        assert runs.open(name, f"{folder}x", "another run", {}) != run_id
        assert [(run.run_id, run.status) for run in runs.find(folder)] == [(run_id, "RUNNING")]
        writer.log(run_id, parameters={"depth": 5}, metrics={"recall": 0.9, "undefined": None}, tags={"a": 1})
        writer.log_files(run_id, tmp_path / "made", ARTEFACT_PATH)
        version = writer.register(name, run_id, {"gate": "none"})
        assert writer.register(name, run_id, {}) == version == "1"
        assert registry.version_of_alias(name, "champion") is None

        writer.set_alias(name, "champion", version)
        assert registry.version_of_alias(name, "champion") == "1"
        assert registry.version_of_alias(name, "challenger") is None

        back = registry.download(name, version, tmp_path / "back" / "deep")
        original = {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}
        assert {file.name: file.read_bytes() for file in back.iterdir()} == original
        (registered,) = runs.versions(run_id)
        assert registered.version == "1"
        assert registered.aliases == {"champion"}
        assert registered.tags["gate"] == "none"

        with pytest.raises(RegistryUnavailable, match="has no version 99"):
            registry.download(name, "99", tmp_path / "none")
    with pytest.raises(RegistryUnavailable, match="MLflow at"):
        writer.set_alias(name, "champion", "99")


def test_a_run_is_ended_once_and_resumed_unless_it_is_finished(mlflow_uri: str) -> None:
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    with MlflowHttp(mlflow_uri) as http:
        runs = TrackedRuns(http)
        run_id = runs.open(name, f"runs/test/{name}", "a run", {})
        assert runs.end_unfinished(runs.find(f"runs/test/{name}"), "KILLED") == [run_id]
        assert runs.end_unfinished(runs.find(f"runs/test/{name}"), "FAILED") == []
        killed = runs.get(run_id)
        assert killed is not None
        runs.resume(killed)
        assert [run.status for run in runs.find(f"runs/test/{name}")] == ["RUNNING"]
        runs.end(run_id, "FINISHED")
        finished = runs.get(run_id)
        assert finished is not None
        runs.resume(finished)
        assert [run.status for run in runs.find(f"runs/test/{name}")] == ["FINISHED"]
        assert runs.get("0" * 32) is None


def test_asking_for_an_alias_is_cheap(mlflow_uri: str) -> None:
    with Registry(mlflow_uri) as registry:
        registry.version_of_alias("fraud-none", "champion")
        started = time.process_time()
        for _ in range(20):
            registry.version_of_alias("fraud-none", "champion")
        assert (time.process_time() - started) / 20 < 0.02


def test_a_version_without_a_manifest_cannot_be_fetched(mlflow_uri: str, tmp_path: Path) -> None:
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / FILE_NAME).write_text("{}")
    writer = RegistryWriter(mlflow_uri)
    with MlflowHttp(mlflow_uri) as http:
        run_id = TrackedRuns(http).open(name, f"runs/test/{name}", "a run", {})
    writer.log_files(run_id, tmp_path / "made", ARTEFACT_PATH)
    version = writer.register(name, run_id, {})
    with Registry(mlflow_uri) as registry, pytest.raises(RegistryUnavailable, match="no readable manifest"):
        registry.download(name, version, tmp_path / "back")


def test_a_file_over_the_bound_is_given_up_on_the_way(mlflow_uri: str, tmp_path: Path) -> None:
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    (tmp_path / "made").mkdir()
    _files(tmp_path / "made")
    (tmp_path / "made" / "model.onnx").write_bytes(bytes(3_000_000))
    writer = RegistryWriter(mlflow_uri)
    with MlflowHttp(mlflow_uri) as http:
        run_id = TrackedRuns(http).open(name, f"runs/test/{name}", "a run", {})
    writer.log_files(run_id, tmp_path / "made", ARTEFACT_PATH)
    version = writer.register(name, run_id, {})
    with (
        Registry(mlflow_uri, max_file_bytes=1_000_000) as registry,
        pytest.raises(ArtefactRefused, match=r"model\.onnx exceeds 1,000,000 bytes"),
    ):
        registry.download(name, version, tmp_path / "back")
    assert (tmp_path / "back" / "model.onnx").stat().st_size < 1_500_000
    with Registry(mlflow_uri, max_file_bytes=3_000_000) as registry:
        registry.download(name, version, tmp_path / "whole")


def test_aliases_are_set_and_listed_without_mlflows_client(mlflow_uri: str, tmp_path: Path) -> None:
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    _files(tmp_path)
    writer = RegistryWriter(mlflow_uri)
    with MlflowHttp(mlflow_uri) as http:
        run_id = TrackedRuns(http).open(name, f"runs/test/{name}", "a run", {})
    version = writer.register(name, run_id, {})
    with Registry(mlflow_uri) as registry:
        assert registry.aliases(name) == {}
        registry.set_alias(name, "champion", version)
        registry.set_alias(name, "previous", version)
        assert registry.aliases(name) == {"champion": version, "previous": version}
        with pytest.raises(RegistryUnavailable):
            registry.set_alias(name, "champion", "99")
        assert registry.aliases("fraud-none") == {}


def test_a_registry_that_does_not_answer_is_told_soon() -> None:
    started = time.monotonic()
    with (
        Registry("http://127.0.0.1:9") as registry,
        pytest.raises(RegistryUnavailable, match="does not answer"),
    ):
        registry.version_of_alias("fraud-none", "champion")
    assert time.monotonic() - started < 4


def test_a_server_that_is_no_registry_is_told(object_store_server: object) -> None:
    url = object_store_server.endpoint_url  # type: ignore[attr-defined]
    with Registry(url) as registry, pytest.raises(RegistryFailure, match="answered"):
        registry.version_of_alias("fraud-none", "champion")


def test_reading_does_not_import_mlflow() -> None:
    code = "import sys, fraud_adapters.models.registry; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
