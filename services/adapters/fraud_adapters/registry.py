"""The model registry: MLflow, its artefacts passed through its server, so that no client needs store keys.

Reading (aliases, files) is plain HTTP: the API asks every two seconds, and importing MLflow costs three
seconds and some hundred MB. Writing, which only the trainer does, goes through MLflow's own client.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest

ARTEFACT_PATH: Final = "model"  # the model's directory within its MLflow run
CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 2.0
DOWNLOAD_SECONDS: Final = 30.0
_ABSENT: Final = "RESOURCE_DOES_NOT_EXIST"


class RegistryUnavailable(Exception):
    """The registry does not answer, or not as it should; one sentence names its address."""


class Registry:
    """Reads aliases and model files; safe to use from several threads.

    Args:
        tracking_uri: MLflow's address, for example `http://mlflow:5000`.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri.rstrip("/")
        self._http = httpx.Client(timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS))

    def version_of_alias(self, name: str, alias: str) -> str | None:
        """The version an alias points to, or None where the model or the alias does not exist.

        Raises:
            RegistryUnavailable: no proper answer within some three seconds.
        """
        answer = self._get("registered-models/alias", {"name": name, "alias": alias})
        return None if answer is None else str(answer["model_version"]["version"])

    def download(self, name: str, version: str, destination: Path) -> Path:
        """Fetch a version's manifest and the files it names into `destination`, which is made if absent.

        Nothing is checked here: `Model.load` compares digests.

        Returns:
            The directory that holds them, `destination`.

        Raises:
            RegistryUnavailable: the version does not exist, or its files cannot be fetched.
        """
        answer = self._get("model-versions/get-download-uri", {"name": name, "version": version})
        if answer is None:
            raise RegistryUnavailable(f"MLflow at {self._uri} has no version {version} of {name}.")
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
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, route: str, query: dict[str, str]) -> dict[str, Any] | None:
        """The JSON answer of a route of MLflow's REST API, or None where what is asked for does not exist."""
        response = self._request(f"{self._uri}/api/2.0/mlflow/{route}", query, READ_SECONDS)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._refused(response)
        if response.status_code == httpx.codes.OK:
            return body
        # An alias that does not exist is reported as a wrong parameter.
        message = str(body.get("message", ""))
        if body.get("error_code") == _ABSENT or ("alias" in message and "not found" in message):
            return None
        raise self._refused(response)

    def _fetch(self, url: str) -> bytes:
        response = self._request(url, {}, DOWNLOAD_SECONDS)
        if response.status_code != httpx.codes.OK:
            raise self._refused(response)
        return response.content

    def _request(self, url: str, query: dict[str, str], seconds: float) -> httpx.Response:
        try:
            return self._http.get(url, params=query, timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS))
        except httpx.HTTPError as error:
            raise RegistryUnavailable(
                f"MLflow at {self._uri} does not answer ({type(error).__name__})."
            ) from None

    def _refused(self, response: httpx.Response) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"MLflow at {self._uri} answered {response.status_code} to {response.request.url.path}."
        )

    def _proxied(self, artefact_uri: str) -> str:
        """Where the server hands out what lies under an artefact's address.

        The address is `mlflow-artifacts:/path`, or with a host, where a server passes artefacts through.
        """
        parts = urlsplit(artefact_uri)
        path = PurePosixPath(unquote(parts.path))
        if parts.scheme != "mlflow-artifacts" or ".." in path.parts:
            raise RegistryUnavailable(
                f"MLflow at {self._uri} keeps artefacts at {parts.scheme}:, which only it can reach: "
                "start it with --artifacts-destination."
            )
        return f"{self._uri}/api/2.0/mlflow-artifacts/artifacts/{quote(str(path).strip('/'))}"
