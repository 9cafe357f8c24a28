"""The versions that made stored decisions, also those that no longer serve."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Final

from fraud_adapters.models.loading import Model
from fraud_adapters.models.recorded import recorded
from fraud_adapters.postgres.model_versions import read_version
from fraud_adapters.postgres.session import Session
from fraud_api.model_cache import ModelCache, VersionSource
from fraud_api.model_holder import Serving
from fraud_core.contract import Contract

IN_MEMORY: Final = 2  # besides those that serve
ON_DISK: Final = 5


class RecordedVersions:
    """Gives the model of a version by its record; safe to use from several threads.

    Its files have a folder of their own, so that a look into the past does not push out what may serve next.
    Whether the version passed its gate does not matter: it decides nothing here.

    Args:
        serving: the versions in memory that serve now.
    """

    def __init__(
        self,
        contract: Contract,
        source: VersionSource,
        session: Session,
        cache: Path,
        serving: Callable[[], Iterable[Serving]],
    ) -> None:
        self._name = contract.registered_model
        self._session = session
        self._serving = serving
        self._cache = ModelCache(contract, source, cache / "recorded" / self._name)
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._lock = Lock()

    def model(self, version: str) -> Model:
        """The model of a version.

        Raises:
            VersionRefused: it is not recorded, or its files are not the recorded ones.
            RegistryFailure, DatabaseUnavailable: it cannot be verified at the moment.
            OSError: the cache cannot be written.
        """
        for serving in self._serving():
            if serving.version == version:
                return serving.model
        with self._lock:
            if version in self._models:
                self._models.move_to_end(version)
                return self._models[version]
            record = self._session.run(lambda cursor: read_version(cursor, self._name, version))
            model = self._cache.load(version, recorded(record, version))
            self._cache.trim(ON_DISK)
            self._models[version] = model
            if len(self._models) > IN_MEMORY:
                self._models.popitem(last=False)
            return model
