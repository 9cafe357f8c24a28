"""Loads model versions as the API would, with what their loading costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

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
from fraud_core.profile import Profile
from fraud_rollout.run_context import RunContext

_MIB: Final = 2**20
_STATM: Final = Path("/proc/self/statm")

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version in memory.

    Attributes:
        memory_mib: by how much this process grew when the version was loaded and had scored a first row.
        profile: the reference profile, None if the version has none.
        example: the rows of the version's input example, float32 [m, k]; None if it has none.
        mlflow_model: the ONNX file that MLflow's client scores with; None if it has none.
    """

    version: str
    model: Model
    memory_mib: float
    profile: Profile | None
    example: Features | None
    mlflow_model: bytes | None


def load_version(context: RunContext, version: str) -> LoadedVersion:
    """Fetch a version, compare it with its record, and load it.

    Raises:
        ModelRefused: it is not recorded, did not pass its gate, has other files than were recorded, or was
            made for another contract.
        RegistryUnavailable: MLflow does not answer.
    """
    name = context.contract.registered_model
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        found = interruptible(connection, lambda: model_versions.read_version(cursor, name, version))
    record = servable(found, version)
    with scratch_directory() as directory:
        fetched = context.registry().download(name, version, directory / "model")
        before = resident_bytes()
        model = load_recorded(record, context.contract, lambda: fetched)
        first_row = np.zeros((1, len(model.manifest.features)), dtype=np.float32)
        model.score_single(first_row)
        model.score_batch(first_row)
        grown = (resident_bytes() - before) / _MIB
        profile = read_profile(fetched, model.manifest)
    fetch = partial(_optional_file, context, version)
    return LoadedVersion(version, model, max(0.0, grown), profile, _example(fetch, model), fetch(SCORE_FILE))


def resident_bytes() -> int:
    """The memory of this process that is in use now."""
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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
