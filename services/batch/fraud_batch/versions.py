"""Any version of the model, by its number or an alias, with the files that were registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.settings import ConfigurationError
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.registry import Registry
from fraud_adapters.postgres import interruptible, model_versions


@dataclass(frozen=True, slots=True)
class ChosenVersion:
    """A registered version: its record's digest, and whether it passed its gate."""

    name: str
    version: str
    digest: str
    gate_passed: bool

    def to_mapping(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "gate_passed": self.gate_passed,
        }


def choose_version(connection: Connection, registry: Registry, name: str, wanted: str) -> ChosenVersion:
    """The version of that number, or the one that the alias names now.

    A version that did not pass its gate may be chosen too: nothing that a batch says decides.

    Raises:
        ConfigurationError: there is no such version or alias; the sentence names those that are there.
        RegistryFailure: MLflow does not answer.
    """
    version: str | None = wanted
    if not wanted.isdecimal():
        version = registry.version_of_alias(name, wanted)
    if version is None:
        raise ConfigurationError(f"--model: {name} has no alias {wanted}; {_known(registry.aliases(name))}.")
    with connection, connection.cursor() as cursor:
        number = version
        record = interruptible(connection, lambda: model_versions.read_version(cursor, name, number))
    if record is None:
        raise ConfigurationError(
            f"--model: {name} has no registered version {version}; {_known(registry.aliases(name))}."
        )
    return ChosenVersion(name, version, record.digest.strip(), record.gate_passed)


def _known(aliases: Mapping[str, str]) -> str:
    listed = ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
    return listed or "no alias is set: train a model first"


def version_files(registry: Registry, chosen: ChosenVersion) -> dict[str, bytes]:
    """The version's files by name, the manifest among them; whoever loads them checks the digest."""
    with scratch_directory() as directory:
        fetched = registry.download(chosen.name, chosen.version, directory / "model")
        return {path.name: path.read_bytes() for path in fetched.iterdir()}
