"""Fetches and loads model versions as the API would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.loading import Model
from fraud_adapters.models.mlflow_format import EXAMPLE, SCORE_FILE
from fraud_adapters.models.recorded import load_recorded, servable
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.models.version_files import read_profile
from fraud_adapters.postgres import interruptible, model_versions
from fraud_adapters.postgres.model_versions import VersionRecord
from fraud_core.profile import Profile
from fraud_rollout.run_context import RunContext

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FetchedVersion:
    """A version's files, and the digest that was recorded of them; the directory is removed after use."""

    version: str
    record: VersionRecord
    directory: Path

    @property
    def digest(self) -> str:
        return self.record.digest.strip()


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version in memory.

    Attributes:
        profile: the reference profile, None if the version has none.
        example: the rows of the version's input example, float32 [m, k]; None if it has none.
        mlflow_model: the ONNX file that MLflow's client scores with; None if it has none.
    """

    version: str
    model: Model
    profile: Profile | None
    example: Features | None
    mlflow_model: bytes | None


@contextmanager
def fetched_version(context: RunContext, version: str) -> Iterator[FetchedVersion]:
    """Fetch a version whose record lets it serve.

    Raises:
        ModelRefused: it is not recorded, or did not pass its gate.
        RegistryUnavailable: MLflow does not answer.
    """
    name = context.contract.registered_model
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        found = interruptible(connection, lambda: model_versions.read_version(cursor, name, version))
    record = servable(found, version)
    with scratch_directory() as directory:
        files = context.registry().download(name, version, directory / "model")
        yield FetchedVersion(version, record, files)


def load_version(context: RunContext, files: FetchedVersion) -> LoadedVersion:
    """Compare a version's files with their record, and load them as the API does.

    Raises:
        ModelRefused: they are others than were recorded, or were made for another contract.
    """
    model = load_recorded(files.record, context.contract, lambda: files.directory)
    profile = read_profile(files.directory, model.manifest)
    fetch = partial(_optional_file, context, files.version)
    return LoadedVersion(files.version, model, profile, _example(fetch, model), fetch(SCORE_FILE))


def _example(fetch: Callable[[str], bytes | None], model: Model) -> Features | None:
    content = fetch(EXAMPLE)
    if content is None:
        return None
    split = orjson.loads(content)
    if split["columns"] != list(model.manifest.features):
        return None
    rows = [[np.nan if value is None else value for value in row] for row in split["data"]]
    return np.array(rows, dtype=np.float32)


def _optional_file(context: RunContext, version: str, file: str) -> bytes | None:
    """A file beside those of the manifest, or None: versions that were made earlier may lack it."""
    with scratch_directory() as directory:
        try:
            path = context.registry().download_file(
                context.contract.registered_model, version, file, directory
            )
        except RegistryFailure:
            return None
        return path.read_bytes()
