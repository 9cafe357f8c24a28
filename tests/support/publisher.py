"""Registers small model versions, as the trainer does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config.constants import ALIAS_CHAMPION
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import ARTEFACT_PATH
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_core.manifest import Manifest
from tests.support.api_server import record_version
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, run


class Publisher:
    """Registers small model versions, as the trainer does, and points the alias at them."""

    def __init__(self, mlflow_uri: str, owner_url: str, folder: Path) -> None:
        self._writer = RegistryWriter(mlflow_uri)
        self._mlflow_uri = mlflow_uri
        self._owner_url = owner_url
        self._folder = folder
        self._seed = 0

    def version(
        self,
        *,
        digest: str | None = None,
        passed: bool = True,
        recorded: bool = True,
        padding: int = 0,
        make: Callable[[Path], Manifest] | None = None,
    ) -> str:
        """Register a version; returns its number.

        Args:
            make: writes its files into a folder; by default a small model of its own.
        """
        self._seed += 1
        files = self._folder / str(self._seed)
        manifest = make(files) if make else make_model(files, CREDITCARD, self._seed)
        with (files / "model.onnx").open("ab") as file:
            file.write(bytes(padding))
        with MlflowHttp(self._mlflow_uri) as http:
            runs = TrackedRuns(http)
            run_id = runs.open(
                CREDITCARD.registered_model, f"runs/test/{self._seed}", f"model {self._seed}", {}
            )
            self._writer.log_files(run_id, files, ARTEFACT_PATH)
            runs.end(run_id, "FINISHED")
        version = self._writer.register(CREDITCARD.registered_model, run_id, {})
        if recorded:
            record_version(self._owner_url, CREDITCARD, version, digest or manifest.digest(), passed=passed)
            run(
                self._owner_url,
                "UPDATE model_versions SET mlflow_run_id = %s WHERE version = %s",
                run_id,
                version,
            )
        return version

    def experiment_of(self, run_id: str) -> str:
        with MlflowHttp(self._mlflow_uri) as http:
            answer = http.get("runs/get", {"run_id": run_id})
        assert answer is not None
        return str(answer["run"]["info"]["experiment_id"])

    def promote(self, version: str, alias: str = ALIAS_CHAMPION) -> None:
        """Move an alias as a person does in MLflow: nothing is audited."""
        self._writer.set_alias(CREDITCARD.registered_model, alias, version)

    def remove(self, alias: str) -> None:
        self._writer._client.delete_registered_model_alias(CREDITCARD.registered_model, alias)

    def alias_entries(self) -> list[tuple[str, str]]:
        """Actor and version of each audited change of the champion."""
        return [
            (actor, version)
            for actor, version in run(
                self._owner_url,
                "SELECT actor, version FROM model_alias_history WHERE alias = 'champion' ORDER BY entry_id",
            )
        ]
