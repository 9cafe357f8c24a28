"""Fetches the champion's manifest and reference profile, checked against the digest that was recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import ALIAS_CHAMPION
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.registry import ArtefactRefused, Registry
from fraud_adapters.models.version_files import ModelRefused, checked_manifest, read_profile
from fraud_adapters.postgres import model_versions
from fraud_core.contract import Contract
from fraud_core.profile import FILE_NAME
from fraud_monitor.run_context import Champion


def fetch_champion(
    contract: Contract, registry: Registry, database: Callable[[], Connection]
) -> Champion | None:
    """The champion, or None if there is none.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        DatabaseUnavailable: Postgres does not answer.
    """
    name = contract.registered_model
    version = registry.version_of_alias(name, ALIAS_CHAMPION)
    if version is None:
        return None
    with closing(database()) as connection, connection, connection.cursor() as cursor:
        record = model_versions.read_version(cursor, name, version)
    if record is None:
        return Champion(version, None, None, f"The champion, version {version}, is not in model_versions.")
    try:
        return _checked(contract, registry, version, record.digest.strip())
    except (ModelRefused, ArtefactRefused) as refused:
        return Champion(version, None, None, f"The champion, version {version}, cannot be used: {refused}")


def _checked(contract: Contract, registry: Registry, version: str, digest: str) -> Champion:
    with scratch_directory() as directory:
        fetched = registry.download(contract.registered_model, version, directory, only={FILE_NAME})
        manifest = checked_manifest(fetched, digest)
        if mismatch := manifest.mismatch(contract):
            raise ModelRefused(mismatch)
        profile = read_profile(fetched, manifest)
    problem = (
        None
        if profile
        else f"The champion, version {version}, has no reference profile: train a new version."
    )
    return Champion(version, manifest, profile, problem)
