"""The model registry: MLflow, whose server proxies the artefacts, so that no client needs the store's keys.

Aliases are read and set, and files are read, over plain HTTP, because the API polls every two seconds. Runs
and versions are written by the trainer alone; it uses MLflow's own client (`registry_writer`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.models.mlflow_http import MlflowHttp, RegistryFailure, RegistryUnavailable
from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest

__all__ = ["ARTEFACT_PATH", "ArtefactRefused", "Registry", "RegistryFailure", "RegistryUnavailable"]

ARTEFACT_PATH: Final = "model"  # the model's directory within its MLflow run
DOWNLOAD_SECONDS: Final = 30.0
MAX_FILE_BYTES: Final = (
    256 * 1024 * 1024
)  # of a file of a version; whoever downloads it must hold it in memory
MAX_MANIFEST_BYTES: Final = 1024 * 1024
MAX_FILES: Final = 20
SET_SECONDS: Final = 10.0
_PIECE_BYTES: Final = 256 * 1024


class ArtefactRefused(RefusedFailure):
    """A version's files exceed what is downloaded; one sentence names the file and the bound."""


class Registry:
    """Reads and sets aliases, and reads model files; safe to use from several threads.

    Its failures are `RegistryFailure`s.

    Args:
        tracking_uri: MLflow's address, for example `http://mlflow:5000`.
        max_file_bytes: a larger file of a version is not downloaded.
        alias_login: user and password to set aliases with, where it is not the user who reads.
    """

    def __init__(
        self,
        tracking_uri: str,
        max_file_bytes: int = MAX_FILE_BYTES,
        *,
        alias_login: tuple[str, str] | None = None,
    ) -> None:
        self._mlflow = MlflowHttp(tracking_uri)
        self._aliases = self._mlflow if alias_login is None else MlflowHttp(tracking_uri, alias_login)
        self._max_file_bytes = max_file_bytes

    def version_of_alias(self, name: str, alias: str) -> str | None:
        """The version an alias points to, or None if the model or the alias does not exist.

        Raises:
            RegistryUnavailable: no valid response within about three seconds.
        """
        answer = self._mlflow.get("registered-models/alias", {"name": name, "alias": alias})
        return None if answer is None else str(answer["model_version"]["version"])

    def aliases(self, name: str) -> dict[str, str]:
        """The version of each alias of a model; empty if the model does not exist.

        Raises:
            RegistryUnavailable: as `version_of_alias`.
        """
        answer = self._mlflow.get("registered-models/get", {"name": name}) or {}
        entries = answer.get("registered_model", {}).get("aliases", [])
        return {str(entry["alias"]): str(entry["version"]) for entry in entries}

    def experiment(self, name: str) -> str | None:
        """The id of the experiment of this name, or None if it does not exist.

        Raises:
            RegistryUnavailable: as `version_of_alias`.
        """
        answer = self._mlflow.get("experiments/get-by-name", {"experiment_name": name})
        return None if answer is None else str(answer["experiment"]["experiment_id"])

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias point to a version.

        Raises:
            RegistryUnavailable: the version does not exist, or MLflow does not set the alias.
        """
        body = {"name": name, "alias": alias, "version": version}
        if self._aliases.post("registered-models/alias", body, SET_SECONDS) is None:
            raise RegistryUnavailable(f"MLflow at {self._mlflow.uri} has no version {version} of {name}.")

    def download(
        self, name: str, version: str, destination: Path, *, only: Collection[str] | None = None
    ) -> Path:
        """Download a version's manifest and the files it names into `destination`, created if missing.

        Nothing is checked here: `Model.load` and `version_files` compare digests.

        Args:
            only: the names of the files to download, besides the manifest; None for all.

        Returns:
            The directory that holds them, `destination`.

        Raises:
            RegistryUnavailable: the version does not exist, or its files cannot be fetched.
            ArtefactRefused: a file is larger than allowed, or the manifest names too many of them.
        """
        base = self._files_of(name, version)
        destination.mkdir(parents=True, exist_ok=True)
        manifest = destination / manifests.FILE_NAME
        self._fetch(f"{base}/{manifests.FILE_NAME}", manifest, MAX_MANIFEST_BYTES)
        try:
            files = Manifest.from_json(manifest.read_bytes()).digests
        except ValueError:
            raise RegistryUnavailable(f"Version {version} of {name} holds no readable manifest.") from None
        if len(files) > MAX_FILES:
            raise ArtefactRefused(
                f"The manifest of version {version} names {len(files)} files; at most {MAX_FILES} are loaded."
            )
        for file in files if only is None else files.keys() & only:
            self._fetch(f"{base}/{quote(file)}", destination / file, self._max_file_bytes)
        return destination

    def download_file(self, name: str, version: str, file: str, destination: Path) -> Path:
        """Download one file of a version that its manifest need not name, into an existing directory.

        No digest covers such a file.

        Raises:
            RegistryUnavailable: the version or the file does not exist, or cannot be fetched.
            ArtefactRefused: the file is larger than allowed.
        """
        path = destination / file
        self._fetch(f"{self._files_of(name, version)}/{quote(file)}", path, self._max_file_bytes)
        return path

    def close(self) -> None:
        self._mlflow.close()
        self._aliases.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _files_of(self, name: str, version: str) -> str:
        """The address below which a version's files are."""
        answer = self._mlflow.get("model-versions/get-download-uri", {"name": name, "version": version})
        if answer is None:
            raise RegistryUnavailable(f"MLflow at {self._mlflow.uri} has no version {version} of {name}.")
        return self._proxied(str(answer["artifact_uri"]))

    def _fetch(self, url: str, path: Path, most: int) -> None:
        """Write a file piece by piece, so that a large one costs disk up to the bound and no memory."""
        with self._mlflow.stream(url, DOWNLOAD_SECONDS) as response, path.open("wb") as file:
            if response.status_code != httpx.codes.OK:
                raise self._mlflow.refused(response)
            for piece in response.iter_bytes(_PIECE_BYTES):
                file.write(piece)
                if file.tell() > most:
                    raise ArtefactRefused(
                        f"The model's file {path.name} exceeds {most:,} bytes, the most that is downloaded."
                    )

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
