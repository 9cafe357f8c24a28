"""Versions of a model on this machine's disk, fetched from the registry when they are not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import numpy as np

from fraud_adapters.models.loading import Model
from fraud_adapters.models.recorded import VersionRefused, load_recorded
from fraud_adapters.models.version_files import ContractMismatch, ModelRefused
from fraud_adapters.postgres.model_versions import VersionRecord
from fraud_core.contract import Contract


class VersionSource(Protocol):
    """Where a version's files come from. `download` raises `RegistryFailure`."""

    def download(self, name: str, version: str, destination: Path) -> Path: ...


class ModelCache:
    """A directory of versions, each checked against its record whenever it is loaded."""

    def __init__(self, contract: Contract, source: VersionSource, directory: Path) -> None:
        self.directory = directory
        self._contract = contract
        self._source = source

    def load(self, version: str, record: VersionRecord) -> Model:
        """The model of the version, from the disk or the registry, verified and warmed up.

        Raises:
            VersionRefused: its files are not the recorded ones, or of another contract.
            RegistryFailure: they cannot be fetched at the moment.
            OSError: the directory cannot be written.
        """
        directory = self.directory / f"{version}-{record.digest[:16]}"
        if directory.is_dir():
            try:
                model = self._warm(record, lambda: directory)
            except ModelRefused:
                shutil.rmtree(directory)
            else:
                directory.touch()  # the oldest directories are removed first
                return model
        partial = self.directory / f".{uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            name = self._contract.registered_model
            model = self._warm(record, lambda: self._source.download(name, version, partial))
            partial.rename(directory)
        except ContractMismatch as error:
            raise VersionRefused("artefact", str(error)) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return model

    def trim(self, keep: int) -> None:
        """Keep so many versions; those that were loaded longest ago are removed."""
        versions = [
            path for path in self.directory.iterdir() if path.is_dir() and not path.name.startswith(".")
        ]
        versions.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in versions[keep:]:
            shutil.rmtree(old, ignore_errors=True)

    def _warm(self, record: VersionRecord, fetch: Callable[[], Path]) -> Model:
        model = load_recorded(record, self._contract, fetch)
        # The first call of an engine takes far longer than later ones, so it is made before any request.
        probe = np.zeros((1, len(self._contract.features)), dtype=np.float32)
        model.score_single(probe)
        model.score_batch(probe)
        return model
