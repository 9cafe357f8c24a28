"""Writes metrics, files, model versions and aliases to MLflow. Needs the extra `mlflow`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any, Final

from fraud_adapters.models.mlflow_http import environment_login, refusal
from fraud_adapters.models.registry import ARTEFACT_PATH, RegistryUnavailable

_CLIENT: Final = {
    # By default the client retries for minutes; a job should fail soon if the server does not answer.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # A job's stdout is its result.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_REFUSALS: Final = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
_VALUE_LENGTH: Final = 6000  # MLflow refuses longer parameters


class RegistryWriter:
    """Writes to the MLflow server at `tracking_uri`. Every method raises a `RegistryFailure`.

    MLflow's client logs in with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of the environment.
    """

    def __init__(self, tracking_uri: str) -> None:
        for variable, value in _CLIENT.items():
            os.environ.setdefault(variable, value)
        # Imported here because it takes three seconds, which only writers should pay for.
        from mlflow import MlflowClient  # noqa: PLC0415

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._uri = tracking_uri.rstrip("/")
        self._client: Any = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None:
        """Log to a run; a metric that is None (undefined) is left out."""
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

        now = int(time() * 1000)
        known = {name: value for name, value in (metrics or {}).items() if value is not None}
        with self._translated_errors():
            self._client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, 0) for name, value in known.items()],
                params=[
                    Param(name, str(value)[:_VALUE_LENGTH]) for name, value in (parameters or {}).items()
                ],
                tags=[RunTag(name, str(value)) for name, value in (tags or {}).items()],
            )

    def log_files(self, run_id: str, directory: Path, path: str | None = None) -> None:
        """Store all files of a directory as artefacts of the run, under `path`."""
        with self._translated_errors():
            self._client.log_artifacts(run_id, str(directory), path)

    def register(self, name: str, run_id: str, tags: Mapping[str, str]) -> str:
        """Register the run's artefacts under `model` as a version of the model `name`; returns its number.

        Each run is registered once: a second call returns the same version.
        """
        with self._translated_errors():
            self._ensure_model(name)
            for known in self._client.search_model_versions(f"run_id='{run_id}'"):
                if known.name == name:
                    return str(known.version)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{ARTEFACT_PATH}"
            return str(self._client.create_model_version(name, source, run_id, tags=dict(tags)).version)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        with self._translated_errors():
            self._client.set_registered_model_alias(name, alias, version)

    def tag_version(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        with self._translated_errors():
            for key, value in tags.items():
                self._client.set_model_version_tag(name, version, key, value)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate MLflow's exceptions."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415

        try:
            yield
        except (MlflowException, RequestException) as error:
            if status := _REFUSALS.get(getattr(error, "error_code", "")):
                raise refusal(self._uri, status, "a request", environment_login()[0]) from None
            first_line = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise RegistryUnavailable(f"MLflow at {self._uri}: {first_line}") from None
