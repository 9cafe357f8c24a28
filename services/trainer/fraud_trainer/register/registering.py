"""The last step: a model version in MLflow, its record in Postgres, and its alias if it passed its gate."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.constants import ALIAS_CHALLENGER, ALIAS_CHAMPION, ALIAS_PREVIOUS
from config.job_results.trainer import ComparedFigure, RegisterResult
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.aliases import set_alias
from fraud_adapters.models.loading import Model
from fraud_adapters.models.mlflow_format import typical_rows, write_mlflow_model
from fraud_adapters.models.registry import ARTEFACT_PATH
from fraud_adapters.postgres import audit, interruptible, model_versions
from fraud_adapters.postgres.model_versions import NewVersion
from fraud_trainer.evaluate.champion import Comparison
from fraud_trainer.evaluate.judgement import Judgement
from fraud_trainer.evaluate.validating import judge, model_directory
from fraud_trainer.load.loading import labels_cut_off
from fraud_trainer.register.confirming import Verdict, confirm_verdict, refuse_conflicting_version
from fraud_trainer.register.promotion import Promotion, PromotionDecision, compared_figures, decide
from fraud_trainer.run_context import RunContext
from fraud_trainer.tracking import resume_run

ACTOR: Final = "trainer"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered version that passed its gate."""

    version: str
    verdict: Verdict
    judgement: Judgement


def register(context: RunContext, *, promote: bool, promotion: Promotion | None = None) -> RegisterResult:
    """Register the validated model. A retry registers nothing twice and changes no version's files.

    The result of `validate` is not trusted: the model is judged again, with the same result. A model that
    failed its gate becomes a version without an alias. A model that passed becomes the champion (the replaced
    one becomes `previous`) or the challenger, as `promotion` says; it is decided once for each version.

    Args:
        promote: make it champion in any case.
        promotion: as `training.promotion`, which is the default.

    Raises:
        RefusedFailure: the gate was not passed; the sentence says which figure missed its bound by how much.
        LastingFailure: the run's files have changed since `validate`, or the run is registered with another
            manifest or verdict.
    """
    step = context.run.step("validate")
    trained = context.run.step("train")
    run_id = resume_run(context, trained)
    judgement = judge(context, trained)
    verdict = confirm_verdict(context, step, judgement)
    with closing(context.database()) as connection:
        with connection, connection.cursor() as cursor:
            interruptible(connection, lambda: model_versions.lock_registration(cursor, run_id))
        # Checked before the upload, because services refuse a version whose files differ from the record.
        refuse_conflicting_version(connection, context, run_id, None, verdict)
        version = _store(context, run_id, verdict, judgement)
        _record(connection, context, version, run_id, verdict)
        refuse_conflicting_version(connection, context, run_id, version, verdict)
        result = _without_alias(context, version, run_id, verdict)
        if verdict.gate.passed:
            candidate = Candidate(version, verdict, judgement)
            rule = promotion or context.training.promotion
            aliases, decision = _alias(connection, context, candidate, rule, promote=promote)
            result |= {"aliases": aliases, "promotion": decision.sentence, "compared": decision.compared}
            result["awaits_release"] = rule == "canary" and ALIAS_CHALLENGER in aliases
    context.tracking().log(run_id, tags={"promotion": result["promotion"]})
    context.tracked.end(run_id, "FINISHED")
    context.run.finish(context.run.seal("register", result, step))
    if not verdict.gate.passed:
        raise RefusedFailure(
            f"{verdict.gate.sentence()} Version {version} is registered without an alias.", result
        )
    return result


def _without_alias(context: RunContext, version: str, run_id: str, verdict: Verdict) -> RegisterResult:
    """The result as it is where the gate was not passed."""
    return {
        "name": context.contract.registered_model,
        "version": version,
        "digest": verdict.digest,
        "gate_passed": verdict.gate.passed,
        "gate": verdict.gate.sentence(),
        "aliases": {},
        "promotion": "No alias, since it did not pass its gate.",
        "compared": [],
        "awaits_release": False,
        "mlflow_run_id": run_id,
    }


def _store(context: RunContext, run_id: str, verdict: Verdict, judgement: Judgement) -> str:
    """Upload and register the model, and load it as a service would; returns the version's number."""
    name, tracking = context.contract.registered_model, context.tracking()
    example = typical_rows(judgement.held_out.features, judgement.held_out.labels)
    with model_directory(context, verdict.manifest) as directory:
        write_mlflow_model(directory, verdict.manifest, example, run_id)
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
        origin=context.run.step("train").outcome.get("origin", "trained"),
        data_digest=context.run.step("load")["digest"],
        code_version=manifest.code_version,
        parent_run=context.run.prefix,
    )
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: model_versions.record_version(cursor, row))


def _alias(
    connection: Connection, context: RunContext, candidate: Candidate, rule: Promotion, *, promote: bool
) -> tuple[dict[str, str], PromotionDecision]:
    """Set the version's aliases; returns them by name, and the decision."""
    name, version = context.contract.registered_model, candidate.version
    champion = context.registry.version_of_alias(name, ALIAS_CHAMPION)
    if champion == version:
        return {ALIAS_CHAMPION: version}, PromotionDecision(True, "It is champion already.")
    if not promote and _decided_before(connection, name, version):
        # Otherwise the retry of an old run would dethrone its successor, or undo a rollback.
        challenger = context.registry.version_of_alias(name, ALIAS_CHALLENGER) == version
        aliases = {ALIAS_CHALLENGER: version} if challenger else {}
        return aliases, PromotionDecision(False, "Its alias was set before: a repetition changes none.")
    decision = decide(
        rule,
        champion=champion,
        asked=promote,
        comparison=lambda: _comparison(context, candidate.judgement.comparison, str(champion)),
    )
    aliases = {ALIAS_CHAMPION if decision.promoted else ALIAS_CHALLENGER: version}
    if champion is not None and decision.promoted:
        aliases = {ALIAS_PREVIOUS: champion, **aliases}
    for alias, target in aliases.items():
        details = {"champion_before": champion, "run": context.run.prefix, "reason": decision.sentence}
        if target == version:
            details |= {"digest": candidate.verdict.digest, "gate": candidate.verdict.gate.sentence()}
        set_alias(connection, context.tracking(), ACTOR, name, alias, target, details)
    return aliases, decision


def _decided_before(connection: Connection, name: str, version: str) -> bool:
    with connection, connection.cursor() as cursor:
        return bool(audit.alias_history(cursor, name, 1, version))


def _comparison(context: RunContext, comparison: Comparison, champion: str) -> list[ComparedFigure] | str:
    """The candidate's figures less the champion's on the held-out part, or why there are none."""
    if comparison.version != champion:
        return f"version {champion} became champion while this model was judged: run register again."
    if comparison.reason is not None:
        return f"{comparison.reason}."
    return compared_figures(context.policy, comparison.differences)
