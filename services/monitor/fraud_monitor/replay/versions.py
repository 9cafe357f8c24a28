"""Loads recorded versions from the registry."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.registry import Registry, RegistryUnavailable
from fraud_adapters.postgres import model_versions
from fraud_core.contract import Contract
from fraud_monitor.replay.verifying import Replayer


def load_version(
    contract: Contract, registry: Registry, database: Callable[[], Connection], version: str
) -> Replayer:
    """A version as its record has it, whether or not it passed its gate.

    Raises:
        ModelRefused: it is not recorded, or its files are not the recorded ones.
        RegistryUnavailable: MLflow does not answer.
        DatabaseUnavailable: Postgres does not answer.
    """
    # Imported here because it loads the engines, which no other verb of the monitor needs.
    from fraud_adapters.models.recorded import VersionRefused, load_recorded, recorded  # noqa: PLC0415

    name = contract.registered_model
    with closing(database()) as connection, connection, connection.cursor() as cursor:
        record = recorded(model_versions.read_version(cursor, name, version), version)
    with scratch_directory() as directory:
        try:
            return load_recorded(record, contract, lambda: registry.download(name, version, directory))
        except RegistryUnavailable as error:
            registry.aliases(name)  # raises if MLflow does not answer at all
            raise VersionRefused("artefact", str(error)) from None
