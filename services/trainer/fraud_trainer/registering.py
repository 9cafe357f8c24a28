"""The last step: a model version in MLflow, its record in Postgres, and its alias if it passed its gate."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import ALIAS_CHALLENGER, ALIAS_CHAMPION, ALIAS_PREVIOUS
from config.job_results import RegisterResult
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.aliases import set_alias
from fraud_adapters.models.loading import Model
from fraud_adapters.models.registry import ARTEFACT_PATH
from fraud_adapters.postgres import interruptible, model_versions
from fraud_adapters.postgres.model_versions import NewVersion
from fraud_trainer.confirming import Verdict, confirm_verdict, refuse_conflicting_version
from fraud_trainer.loading import labels_cut_off
from fraud_trainer.run_context import RunContext
from fraud_trainer.tracking import resume_run
from fraud_trainer.validating import judge, model_directory

ACTOR: Final = "trainer"


def register(context: RunContext, *, promote: bool) -> RegisterResult:
    """Register the validated model. A retry registers nothing twice and changes no version's files.

    The result of `validate` is not trusted: the model is judged again, with the same result. A model that
    failed its gate becomes a version without an alias. A model that passed becomes the champion if there is
    none or with `promote` (the replaced one becomes `previous`), otherwise the challenger.

    Raises:
        RefusedFailure: the gate was not passed; the sentence says which figure missed its bound by how much.
        LastingFailure: the run's files have changed since `validate`, or the run is registered with another
            manifest or verdict.
    """
    step = context.run.step("validate")
    trained = context.run.step("train")
    run_id = resume_run(context, trained)
    verdict = confirm_verdict(context, step, judge(context, trained))
    with closing(context.database()) as connection:
        with connection, connection.cursor() as cursor:
            interruptible(connection, lambda: model_versions.lock_registration(cursor, run_id))
        # Checked before the upload, because services refuse a version whose files differ from the record.
        refuse_conflicting_version(connection, context, run_id, None, verdict)
        version = _store(context, run_id, verdict)
        _record(connection, context, version, run_id, verdict)
        refuse_conflicting_version(connection, context, run_id, version, verdict)
        result: RegisterResult = {
            "name": context.contract.registered_model,
            "version": version,
            "digest": verdict.digest,
            "gate_passed": verdict.gate.passed,
            "gate": verdict.gate.sentence(),
            "aliases": {},
            "mlflow_run_id": run_id,
        }
        if verdict.gate.passed:
            result["aliases"] = _alias(connection, context, version, verdict, promote=promote)
    context.tracked.end(run_id, "FINISHED")
    context.run.finish(context.run.seal("register", result, step))
    if not verdict.gate.passed:
        raise RefusedFailure(
            f"{verdict.gate.sentence()} Version {version} is registered without an alias.", result
        )
    return result


def _store(context: RunContext, run_id: str, verdict: Verdict) -> str:
    """Upload and register the model, and load it as a service would; returns the version's number."""
    name, tracking = context.contract.registered_model, context.tracking()
    with model_directory(context, verdict.manifest) as directory:
        tracking.log_files(run_id, directory, ARTEFACT_PATH)
    version = tracking.register(
        name,
        run_id,
        {
            "contract": context.contract.schema_id,
            "digest": verdict.digest,
            "gate": verdict.gate.policy,
            "gate_passed": str(verdict.gate.passed).lower(),
        },
    )
    with scratch_directory() as directory:
        fetched = context.registry.download(name, version, directory)
        Model.load(fetched, verdict.digest, context.contract)
    return version


def _record(connection: Connection, context: RunContext, version: str, run_id: str, verdict: Verdict) -> None:
    """Write the record that services verify a model with, before any alias refers to the version."""
    manifest = verdict.manifest
    row = NewVersion(
        name=context.contract.registered_model,
        version=version,
        mlflow_run_id=run_id,
        contract=context.contract.schema_id,
        digest=verdict.digest,
        gate_policy=verdict.gate.policy,
        gate_passed=verdict.gate.passed,
        gate_outcome=verdict.gate.to_mapping(),
        metrics=manifest.metrics,
        threshold=manifest.threshold,
        block_threshold=manifest.block_threshold,
        data_from=manifest.data_from,
        data_to=manifest.data_to,
        created_at=manifest.created_at,
        labels_as_of=labels_cut_off(context.run.step("load")),
    )
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: model_versions.record_version(cursor, row))


def _alias(
    connection: Connection, context: RunContext, version: str, verdict: Verdict, *, promote: bool
) -> dict[str, str]:
    """Set the version's aliases; returns them by name."""
    name = context.contract.registered_model
    champion = context.registry.version_of_alias(name, ALIAS_CHAMPION)
    if champion == version:
        return {ALIAS_CHAMPION: version}
    aliases = {ALIAS_CHALLENGER: version}
    if champion is None or promote:
        aliases = {ALIAS_CHAMPION: version}
    if champion is not None and promote:
        aliases = {ALIAS_PREVIOUS: champion, **aliases}
    for alias, target in aliases.items():
        details = {"champion_before": champion, "run": context.run.prefix}
        if target == version:
            details |= {"digest": verdict.digest, "gate": verdict.gate.sentence()}
        set_alias(connection, context.tracking(), ACTOR, name, alias, target, details)
    return aliases
