"""Model versions: the one that serves, the others with their aliases, reload and rollback."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from config.constants import ALIAS_CHAMPION, MODEL_CARD
from fraud_adapters.models.aliases import AliasMoved, NothingToRollBackTo, roll_back
from fraud_adapters.models.recorded import VersionRefused
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.postgres import audit
from fraud_adapters.postgres.audit import AliasChange
from fraud_adapters.postgres.model_versions import VersionSummary, read_versions
from fraud_api.access import Deployer, Reader
from fraud_api.dependencies import ApiService, Database
from fraud_api.model_holder import Serving
from fraud_api.openapi import problems
from fraud_api.problems import Problem, unavailable

router = APIRouter(prefix="/models", tags=["models"])

MAX_LISTED: Final = 200
_REGISTRY_SILENT: Final = "The model registry does not respond correctly."
_NO_PREVIOUS: Final[Mapping[int | str, dict[str, Any]]] = {
    409: {**problems(409)[409], "description": "There is no previous version that may serve."}
}


class Gate(BaseModel):
    """The result of the gate the version had to pass; `outcome` is as the training job recorded it."""

    policy: str
    passed: bool
    outcome: dict[str, Any]


class Engines(BaseModel):
    """The engines for one transaction and for many, with their versions."""

    single: str
    batch: str


class ServedModel(BaseModel):
    name: str
    alias: str
    version: str
    digest: str
    contract: str
    threshold: float
    block_threshold: float
    gate: Gate
    metrics: dict[str, Any]
    engines: Engines


class Lineage(BaseModel):
    """What a version was made of; null where it was recorded before this was."""

    origin: str = Field(description="trained here, or imported")
    data_from: datetime | None
    data_to: datetime | None
    data_digest: str | None = Field(description="SHA-256 of the labelled transactions")
    code_version: str | None
    parent_run: str | None = Field(description="the run of the training job")
    mlflow_run_id: str | None


class Pages(BaseModel):
    """Paths of MLflow's web page, below its address, where a person logs in."""

    run: str
    model_card: str

    @classmethod
    def of(cls, experiment: str, run: str) -> Pages:
        page = f"/#/experiments/{experiment}/runs/{run}"
        return cls(run=page, model_card=f"{page}/artifacts/{MODEL_CARD}")


class ModelVersion(BaseModel):
    """A version, whether or not it passed its gate."""

    version: str
    digest: str
    contract: str
    created_at: datetime
    aliases: list[str] | None = Field(description="its aliases now; null where the registry does not answer")
    threshold: float
    block_threshold: float
    gate: Gate
    metrics: dict[str, Any]
    lineage: Lineage
    pages: Pages | None = Field(
        description="the run and the model card in MLflow; null where it does not answer or has no run of it"
    )


class AliasEntry(BaseModel):
    """An entry of the audit log about an alias."""

    at: datetime
    actor: str = Field(description="mlflow where the alias was moved in MLflow itself")
    alias: str
    version: str
    details: dict[str, Any]


class ModelList(BaseModel):
    models: list[ServedModel]
    versions: list[ModelVersion] = Field(description="the newest first")
    alias_history: list[AliasEntry] = Field(description="the newest first")


class Reloaded(BaseModel):
    """What serves now; `problem` says why the champion does not, where it does not."""

    version: str | None
    digest: str | None
    problem: str | None


class RolledBack(Reloaded):
    """The champion after a rollback, and what serves."""

    champion: str
    champion_before: str | None
    changed: bool = Field(description="false where the previous version was champion already")


@router.get("", summary="The model that serves, the versions and the history of their aliases")
def list_models(
    _: Reader, backend: ApiService, database: Database, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20
) -> ModelList:
    """The champion that serves, if there is one; the latest versions; the latest changes of aliases."""
    serving, name = backend.holder.current, backend.registered_model
    versions = database.run(lambda cursor: read_versions(cursor, name, limit))
    history = database.run(lambda cursor: audit.alias_history(cursor, name, limit))
    aliases, experiment = _in_registry(backend)
    return ModelList(
        models=[_served(name, serving)] if serving else [],
        versions=[_version(version, aliases, experiment) for version in versions],
        alias_history=[_entry(change) for change in history],
    )


@router.post("/reload", summary="Follow the champion at once")
def reload_model(_: Deployer, backend: ApiService) -> Reloaded:
    """Look at the alias now instead of within seconds; a version refused lately is checked again."""
    return Reloaded(**_state(backend, backend.holder.reload()))


@router.post("/rollback", summary="Make the previous version champion", responses={**_NO_PREVIOUS})
def roll_back_model(identity: Deployer, backend: ApiService, database: Database) -> RolledBack:
    """The champion becomes what `previous` names, after it was verified; a repetition changes nothing.

    This replica follows at once, others within seconds.
    """
    holder = backend.holder
    try:
        moved = roll_back(
            database, backend.registry, identity.client_id, backend.registered_model, holder.check
        )
    except NothingToRollBackTo as error:
        raise Problem(409, str(error)) from None
    except VersionRefused as error:
        raise Problem(409, f"The previous version must not serve: {error}") from None
    except AliasMoved as error:
        raise unavailable(str(error)) from None
    except RegistryFailure:
        raise unavailable(_REGISTRY_SILENT) from None
    return RolledBack(
        champion=moved.version,
        champion_before=moved.before,
        changed=moved.changed,
        **_state(backend, holder.reload()),
    )


def _state(backend: ApiService, serving: Serving | None) -> dict[str, str | None]:
    return {
        "version": serving.version if serving else None,
        "digest": serving.record.digest if serving else None,
        "problem": backend.holder.problem,
    }


def _in_registry(backend: ApiService) -> tuple[dict[str, str] | None, str | None]:
    """The aliases, and the id of the experiment of the model's name; None where MLflow does not answer."""
    with suppress(RegistryFailure):
        name = backend.registered_model
        return backend.registry.aliases(name), backend.registry.experiment(name)
    return None, None


def _version(
    version: VersionSummary, aliases: Mapping[str, str] | None, experiment: str | None
) -> ModelVersion:
    named = None if aliases is None else sorted(a for a, at in aliases.items() if at == version.version)
    return ModelVersion(
        version=version.version,
        digest=version.digest,
        contract=version.contract,
        created_at=version.created_at,
        aliases=named,
        threshold=version.threshold,
        block_threshold=version.block_threshold,
        gate=Gate(policy=version.gate_policy, passed=version.gate_passed, outcome=version.gate_outcome),
        metrics=version.metrics,
        lineage=Lineage(
            origin=version.origin,
            data_from=version.data_from,
            data_to=version.data_to,
            data_digest=version.data_digest,
            code_version=version.code_version,
            parent_run=version.parent_run,
            mlflow_run_id=version.mlflow_run_id,
        ),
        pages=Pages.of(experiment, version.mlflow_run_id) if experiment and version.mlflow_run_id else None,
    )


def _entry(change: AliasChange) -> AliasEntry:
    return AliasEntry(
        at=change.recorded_at,
        actor=change.actor,
        alias=change.alias,
        version=change.version,
        details={name: value for name, value in change.details.items() if name != "version"},
    )


def _served(name: str, serving: Serving) -> ServedModel:
    manifest, record = serving.model.manifest, serving.record
    return ServedModel(
        name=name,
        alias=ALIAS_CHAMPION,
        version=serving.version,
        digest=record.digest,
        contract=record.contract,
        threshold=manifest.threshold,
        block_threshold=manifest.block_threshold,
        gate=Gate(policy=record.gate_policy, passed=record.gate_passed, outcome=record.gate_outcome),
        metrics=record.metrics,
        engines=Engines(single=serving.model.engine_single, batch=serving.model.engine_batch),
    )
