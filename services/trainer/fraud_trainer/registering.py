"""The last step: a model version in MLflow, its record in Postgres, and its alias if it passed its gate."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extras import Json

from config.constants import ALIAS_CHALLENGER, ALIAS_CHAMPION, ALIAS_PREVIOUS
from config.job_results import RegisterResult
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.models.loading import Model
from fraud_adapters.models.registry import ARTEFACT_PATH
from fraud_adapters.postgres import interruptible
from fraud_trainer.bench import Bench
from fraud_trainer.confirming import Verdict, confirmed, refuse_another
from fraud_trainer.scratch import scratch_directory
from fraud_trainer.tracking import resumed
from fraud_trainer.validating import judge, model_directory

ACTOR: Final = "trainer"
# One registration of a run at a time, whoever else tries; the lock ends with the connection.
_ALONE: Final = "SELECT pg_advisory_lock(hashtextextended('register ' || %s, 0))"


def register(bench: Bench, *, promote: bool) -> RegisterResult:
    """Register the validated model. Repeated, it registers nothing twice and changes no version's files.

    What `validate` wrote is not believed: the model is judged again, and must come out the same.
    A model that failed its gate becomes a version without an alias. One that passed becomes champion if
    there is none or if `promote` says so (the replaced one is then `previous`), else challenger.

    Raises:
        RefusedFailure: the gate was not passed; the sentence says which figure missed its bound by how much.
        LastingFailure: the run holds other than `validate` saw, or is registered with another manifest or
            verdict.
    """
    step = bench.run.step("validate")
    trained = bench.run.step("train")
    run_id = resumed(bench, trained)
    verdict = confirmed(bench, step, judge(bench, trained))
    with closing(bench.database()) as connection:
        with connection, connection.cursor() as cursor:
            interruptible(connection, lambda: cursor.execute(_ALONE, (run_id,)))
        # Before anything is uploaded: services refuse a version whose files are not those recorded.
        refuse_another(connection, bench, run_id, None, verdict)
        version = _store(bench, run_id, verdict)
        _record(connection, bench, version, run_id, verdict)
        refuse_another(connection, bench, run_id, version, verdict)
        result: RegisterResult = {
            "name": bench.contract.registered_model,
            "version": version,
            "digest": verdict.digest,
            "gate_passed": verdict.gate.passed,
            "gate": verdict.gate.sentence(),
            "aliases": {},
            "mlflow_run_id": run_id,
        }
        if verdict.gate.passed:
            result["aliases"] = _alias(connection, bench, version, verdict, promote=promote)
    bench.tracked.end(run_id, "FINISHED")
    bench.run.finish(bench.run.seal("register", result, step))
    if not verdict.gate.passed:
        raise RefusedFailure(
            f"{verdict.gate.sentence()} Version {version} is registered without an alias.", result
        )
    return result


def _store(bench: Bench, run_id: str, verdict: Verdict) -> str:
    """Upload, register, and read back what a service would get; the version's number."""
    name, tracking = bench.contract.registered_model, bench.tracking()
    with model_directory(bench, verdict.manifest) as directory:
        tracking.log_files(run_id, directory, ARTEFACT_PATH)
    version = tracking.register(
        name,
        run_id,
        {
            "contract": bench.contract.schema_id,
            "digest": verdict.digest,
            "gate": verdict.gate.policy,
            "gate_passed": str(verdict.gate.passed).lower(),
        },
    )
    with scratch_directory() as directory:
        fetched = bench.registry.download(name, version, directory)
        Model.load(fetched, verdict.digest, bench.contract)
    return version


def _record(connection: Connection, bench: Bench, version: str, run_id: str, verdict: Verdict) -> None:
    """The row services check a model against, committed before any alias names the version."""
    manifest = verdict.manifest
    row = {
        "name": bench.contract.registered_model,
        "version": version,
        "mlflow_run_id": run_id,
        "contract": bench.contract.schema_id,
        "digest": verdict.digest,
        "gate_policy": verdict.gate.policy,
        "gate_passed": verdict.gate.passed,
        "gate_outcome": Json(verdict.gate.to_mapping()),
        "metrics": Json(manifest.metrics),
        "threshold": manifest.threshold,
        "block_threshold": manifest.block_threshold,
        "data_from": manifest.data_from,
        "data_to": manifest.data_to,
        "created_at": manifest.created_at,
    }
    # The names are those of the literal above.
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    statement = f"INSERT INTO model_versions ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(statement, row))


def _alias(
    connection: Connection, bench: Bench, version: str, verdict: Verdict, *, promote: bool
) -> dict[str, str]:
    """Set the aliases the version earned; those set, by name."""
    name = bench.contract.registered_model
    champion = bench.registry.version_of_alias(name, ALIAS_CHAMPION)
    if champion == version:
        return {ALIAS_CHAMPION: version}
    aliases = {ALIAS_CHALLENGER: version}
    if champion is None or promote:
        aliases = {ALIAS_CHAMPION: version}
    if champion is not None and promote:
        aliases = {ALIAS_PREVIOUS: champion, **aliases}
    for alias, target in aliases.items():
        details = {"version": target, "champion_before": champion, "run": bench.run.prefix}
        if target == version:
            details |= {"digest": verdict.digest, "gate": verdict.gate.sentence()}
        # The entry stands only if the alias was set, and no alias is set that could not be recorded.
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT audit_append(%s, %s, %s, %s)",
                (ACTOR, "model_alias_set", f"{name}@{alias}", Json(details)),
            )
            bench.tracking().set_alias(name, alias, target)
    return aliases
