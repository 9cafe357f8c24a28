"""The model that is served: follows the registry's alias, and takes over only what may decide."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Protocol
from uuid import uuid4

import numpy as np

from config.constants import ALIAS_CHAMPION
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.loading import Model, ModelRefused
from fraud_adapters.models.registry import RegistryUnavailable
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.model_versions import VersionRecord, read_version
from fraud_adapters.postgres.session import Session
from fraud_api.metrics import Metrics
from fraud_core.contract import Contract

KEEP_VERSIONS: Final = 3  # directories in the cache, so that a rollback needs no download
RETRY_SECONDS: Final = 30.0  # until a refused version is looked at again, unless its record changed
_REMEMBERED: Final = "champion"  # file naming the version served last, for a start without registry


class ModelSource(Protocol):
    """Where versions come from; the model registry. Both raise `RegistryUnavailable`."""

    def version_of_alias(self, name: str, alias: str) -> str | None: ...

    def download(self, name: str, version: str, destination: Path) -> Path: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """A model that serves, with its version and record."""

    version: str
    model: Model
    record: VersionRecord


class Refused(Exception):
    """A version that may not serve: a code for the metric, and a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class ModelHolder:
    """Holds the champion. `current` is swapped in one assignment: a request uses one model to its end."""

    def __init__(
        self, contract: Contract, source: ModelSource, session: Session, cache: Path, metrics: Metrics
    ) -> None:
        self.current: Serving | None = None
        self.problem: str | None = "not loaded yet"
        self._contract = contract
        self._source = source
        self._session = session
        self._cache = cache / contract.registered_model
        self._metrics = metrics
        self._refused: tuple[str, VersionRecord | None, float] | None = None

    def poll(self) -> None:
        """Look where the alias points and take that version over if it may serve; else keep what serves."""
        try:
            version = self._wanted()
            if version is None:
                self._note("no_champion", f"{self._contract.registered_model} has no {ALIAS_CHAMPION}.")
            elif self.current is None or self.current.version != version:
                self._take(version)
            else:
                self.problem = None
        except Refused as error:
            self._note(error.reason, str(error))
        except (RegistryUnavailable, DatabaseUnavailable, OSError) as error:
            self._note("unavailable", _shown(error), str(error))

    def _wanted(self) -> str | None:
        try:
            return self._source.version_of_alias(self._contract.registered_model, ALIAS_CHAMPION)
        except RegistryUnavailable:
            # Without registry the version that served last may serve again, if its files are here.
            remembered = self._cache / _REMEMBERED
            if self.current is not None or not remembered.is_file():
                raise
            return remembered.read_text(encoding="ascii").strip()

    def _take(self, version: str) -> None:
        record = self._session.run(
            lambda cursor: read_version(cursor, self._contract.registered_model, version)
        )
        if self._refused_lately(version, record):
            return
        try:
            if record is None:
                raise Refused("not_recorded", f"Version {version} is not in model_versions.")
            if not record.gate_passed:
                raise Refused("gate", f"Version {version} did not pass the gate {record.gate_policy}.")
            serving = Serving(version, self._loaded(version, record), record)
        except Refused:
            self._refused = (version, record, monotonic())
            raise
        self._serve(serving)

    def _refused_lately(self, version: str, record: VersionRecord | None) -> bool:
        if self._refused is None:
            return False
        *known, since = self._refused
        return known == [version, record] and monotonic() - since < RETRY_SECONDS

    def _serve(self, serving: Serving) -> None:
        previous, self.current, self.problem, self._refused = self.current, serving, None, None
        record = serving.record
        self._metrics.model.clear()
        self._metrics.model.labels(serving.version, record.digest, record.gate_policy).set(1)
        (self._cache / _REMEMBERED).write_text(serving.version, encoding="ascii")
        self._forget_old()
        get_logger(__name__).info(
            "model_served",
            version=serving.version,
            digest=record.digest,
            before=previous.version if previous else None,
        )

    def _loaded(self, version: str, record: VersionRecord) -> Model:
        """The version's files, from the cache or the registry, checked and tried out once."""
        directory = self._cache / f"{version}-{record.digest[:16]}"
        if directory.is_dir():
            try:
                model = self._checked(directory, record)
            except Refused:
                shutil.rmtree(directory)
            else:
                directory.touch()  # what was used last stays longest
                return model
        partial = self._cache / f".{uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            files = self._source.download(self._contract.registered_model, version, partial)
            model = self._checked(files, record)
            files.rename(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return model

    def _checked(self, directory: Path, record: VersionRecord) -> Model:
        try:
            model = Model.load(directory, record.digest, self._contract)
        except ModelRefused as error:
            raise Refused("artefact", str(error)) from None
        # The first call of an engine takes far longer than the others: not in a request.
        probe = np.zeros((1, len(self._contract.features)), dtype=np.float32)
        model.score_single(probe)
        model.score_batch(probe)
        return model

    def _forget_old(self) -> None:
        versions = [path for path in self._cache.iterdir() if path.is_dir() and not path.name.startswith(".")]
        versions.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in versions[KEEP_VERSIONS:]:
            shutil.rmtree(old, ignore_errors=True)

    def _note(self, reason: str, sentence: str, detail: str | None = None) -> None:
        """Keep the sentence for the readiness report, which anybody may read; log it with its detail."""
        if sentence == self.problem:
            return
        self.problem = sentence
        self._metrics.model_refused.labels(reason).inc()
        serving = self.current.version if self.current else None
        get_logger(__name__).error(
            "model_not_taken", reason=reason, detail=detail or sentence, serving=serving
        )


def _shown(error: Exception) -> str:
    """What is unavailable, without address, user or path."""
    if isinstance(error, RegistryUnavailable):
        return "The model registry does not answer as it should."
    return (
        "The database does not answer." if isinstance(error, DatabaseUnavailable) else "No model can be kept."
    )
