"""From the record of a version to its loaded model, to serve it, compare with it or roll back to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fraud_adapters.models.loading import Model
from fraud_adapters.models.registry import ArtefactRefused
from fraud_adapters.models.version_files import ContractMismatch, ModelRefused
from fraud_adapters.postgres.model_versions import VersionRecord
from fraud_core.contract import Contract

Reason = Literal["not_recorded", "gate", "artefact"]


class VersionRefused(ModelRefused):
    """A version must not serve; `reason` is a code for metrics, the message one sentence."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason


def servable(record: VersionRecord | None, version: str) -> VersionRecord:
    """The record of a version, if its verdict lets it serve.

    Raises:
        VersionRefused: the version is not recorded, or did not pass its gate.
    """
    record = recorded(record, version)
    if not record.gate_passed:
        raise VersionRefused("gate", f"Version {version} did not pass the gate {record.gate_policy}.")
    return record


def recorded(record: VersionRecord | None, version: str) -> VersionRecord:
    """The record of a version.

    Raises:
        VersionRefused: there is none.
    """
    if record is None:
        raise VersionRefused("not_recorded", f"Version {version} is not in model_versions.")
    return record


def load_recorded(record: VersionRecord, contract: Contract, fetch: Callable[[], Path]) -> Model:
    """Fetch a version's files and load them, if they have the recorded digest and fit the contract.

    Args:
        fetch: gives the directory that holds the files.

    Raises:
        ContractMismatch: the files are as recorded, and of a model for another contract.
        VersionRefused: a file is too large, missing, unreadable, or not the recorded one.
    """
    try:
        return Model.load(fetch(), record.digest.strip(), contract)
    except ContractMismatch:
        raise
    except (ModelRefused, ArtefactRefused) as error:
        raise VersionRefused("artefact", str(error)) from None
