"""The model registry: MLflow, whose server proxies the artefacts, so that no client needs the store's keys.

Aliases and files are read over plain HTTP, because the API polls every two seconds. Only the trainer writes;
it uses MLflow's own client (`registry_writer`).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from fraud_adapters.models.mlflow_http import MlflowHttp, RegistryFailure, RegistryUnavailable
from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest

__all__ = ["ARTEFACT_PATH", "Registry", "RegistryFailure", "RegistryUnavailable"]

ARTEFACT_PATH: Final = "model"  # the model's directory within its MLflow run
DOWNLOAD_SECONDS: Final = 30.0


class Registry:
    """Reads aliases and model files; safe to use from several threads. Its failures are `RegistryFailure`s.

    Args:
        tracking_uri: MLflow's address, for example `http://mlflow:5000`.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._mlflow = MlflowHttp(tracking_uri)

    def version_of_alias(self, name: str, alias: str) -> str | None:
        """The version an alias points to, or None if the model or the alias does not exist.

        Raises:
            RegistryUnavailable: no valid response within about three seconds.
        """
        answer = self._mlflow.get("registered-models/alias", {"name": name, "alias": alias})
        return None if answer is None else str(answer["model_version"]["version"])

    def download(self, name: str, version: str, destination: Path) -> Path:
        """Download a version's manifest and the files it names into `destination`, created if missing.

        Nothing is checked here: `Model.load` compares digests.

        Returns:
            The directory that holds them, `destination`.

        Raises:
            RegistryUnavailable: the version does not exist, or its files cannot be fetched.
        """
        answer = self._mlflow.get("model-versions/get-download-uri", {"name": name, "version": version})
        if answer is None:
            raise RegistryUnavailable(f"MLflow at {self._mlflow.uri} has no version {version} of {name}.")
        base = self._proxied(str(answer["artifact_uri"]))
        destination.mkdir(parents=True, exist_ok=True)
        content = self._fetch(f"{base}/{manifests.FILE_NAME}")
        try:
            files = Manifest.from_json(content).digests
        except ValueError:
            raise RegistryUnavailable(f"Version {version} of {name} holds no readable manifest.") from None
        (destination / manifests.FILE_NAME).write_bytes(content)
        for file in files:
            (destination / file).write_bytes(self._fetch(f"{base}/{quote(file)}"))
        return destination

    def close(self) -> None:
        self._mlflow.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _fetch(self, url: str) -> bytes:
        response = self._mlflow.request("GET", url, DOWNLOAD_SECONDS)
        if response.status_code != httpx.codes.OK:
            raise self._mlflow.refused(response)
        return response.content

    def _proxied(self, artefact_uri: str) -> str:
        """The HTTP address under which the server proxies an artefact.

        An artefact of a proxying server has the address `mlflow-artifacts:/path`, perhaps with a host.
        """
        parts = urlsplit(artefact_uri)
        path = PurePosixPath(unquote(parts.path))
        if parts.scheme != "mlflow-artifacts" or ".." in path.parts:
            raise RegistryUnavailable(
                f"MLflow at {self._mlflow.uri} keeps artefacts at {parts.scheme}:, which only it can reach: "
                "start it with --artifacts-destination."
            )
        return f"{self._mlflow.uri}/api/2.0/mlflow-artifacts/artifacts/{quote(str(path).strip('/'))}"
