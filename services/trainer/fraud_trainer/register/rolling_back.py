"""The verb `rollback`: the version that `previous` names becomes champion again."""

from __future__ import annotations

from functools import partial

from config.job_results.trainer import RollbackResult
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.aliases import NothingToRollBackTo, roll_back
from fraud_adapters.models.recorded import load_recorded, servable
from fraud_adapters.models.registry import Registry
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres.model_versions import read_version
from fraud_adapters.postgres.session import Session
from fraud_core.contract import Contract
from fraud_trainer.register.registering import ACTOR


def roll_back_champion(session: Session, registry: Registry, contract: Contract) -> RollbackResult:
    """Move the alias, after checking that the version may serve. A repetition changes nothing.

    Raises:
        RefusedFailure: there is no previous version, or it must not serve.
        RegistryUnavailable, DatabaseUnavailable: nothing was changed.
    """
    name = contract.registered_model
    outcome = roll_back(session, registry, ACTOR, name, partial(_check, session, registry, contract))
    return {
        "status": "done",
        "name": name,
        "champion": outcome.version,
        "champion_before": outcome.before,
        "changed": outcome.changed,
    }


def _check(session: Session, registry: Registry, contract: Contract, version: str) -> None:
    name = contract.registered_model
    record = session.run(lambda cursor: read_version(cursor, name, version))
    try:
        with scratch_directory() as directory:
            fetch = partial(registry.download, name, version, directory)
            load_recorded(servable(record, version), contract, fetch)
    except ModelRefused as refused:
        raise NothingToRollBackTo(f"The previous version must not serve: {refused}") from None
