"""The last step: a model version in MLflow, its record in Postgres, and its alias if it passed its gate."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extras import Json

from config.constants import ALIAS_CHALLENGER, ALIAS_CHAMPION, ALIAS_PREVIOUS
from fraud_adapters.job import JobFailed
from fraud_adapters.registry import ARTEFACT_PATH
from fraud_adapters.scoring import Model
from fraud_core import manifest as manifests
from fraud_core.manifest import Manifest
from fraud_trainer.bench import Bench
from fraud_trainer.validating import model_directory

ACTOR: Final = "trainer"
_ANOTHER: Final = """
    SELECT version FROM model_versions
    WHERE name = %s AND (mlflow_run_id = %s OR version = %s) AND digest <> %s LIMIT 1
"""


def register(bench: Bench, *, promote: bool) -> dict[str, Any]:
    """Register the validated model. Repeated, it registers nothing twice and changes no version's files.

    A model that failed its gate becomes a version without an alias. One that passed becomes champion if
    there is none or if `promote` says so (the replaced one is then `previous`), else challenger.

    Raises:
        JobFailed: the gate was not passed; the sentence says which figure missed its bound by how much. Or
            the run is registered with another manifest.
    """
    validated = bench.run.step("validate")
    run_id = bench.run.step("train")["mlflow_run_id"]
    manifest = Manifest.from_json(bench.run.get(manifests.FILE_NAME, validated["digest"]))
    with closing(bench.database()) as connection:
        # Before anything is uploaded: services refuse a version whose files are not those recorded.
        _refuse_another(connection, bench, run_id, None, validated["digest"])
        version = _store(bench, manifest, run_id, validated)
        _record(connection, bench, version, manifest, validated)
        _refuse_another(connection, bench, run_id, version, validated["digest"])
        result: dict[str, Any] = {
            "name": bench.contract.registered_model,
            "version": version,
            "digest": validated["digest"],
            "gate_passed": validated["passed"],
            "gate": validated["sentence"],
            "aliases": {},
            "mlflow_run_id": run_id,
        }
        if validated["passed"]:
            result["aliases"] = _alias(connection, bench, version, validated, promote=promote)
    bench.tracking().finish(run_id, "FINISHED")
    bench.run.finish_step("register", result)
    if not validated["passed"]:
        raise JobFailed(f"{validated['sentence']} Version {version} is registered without an alias.", result)
    return result


def _refuse_another(
    connection: Connection, bench: Bench, run_id: str, version: str | None, digest: str
) -> None:
    """Refuse to go on where `model_versions` holds this run or version with another digest.

    Raises:
        JobFailed: it does.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(_ANOTHER, (bench.contract.registered_model, run_id, version, digest))
        row = cursor.fetchone()
    if row is not None:
        raise JobFailed(
            f"Version {row[0]} of {bench.contract.registered_model} is recorded with another manifest than "
            f"{bench.run.prefix} holds: train again, a version's files never change."
        )


def _store(bench: Bench, manifest: Manifest, run_id: str, validated: dict[str, Any]) -> str:
    """Upload, register, and read back what a service would get; the version's number."""
    name, tracking = bench.contract.registered_model, bench.tracking()
    with model_directory(bench, manifest) as directory:
        tracking.log_files(run_id, directory, ARTEFACT_PATH)
    version = tracking.register(
        name,
        run_id,
        {
            "contract": bench.contract.schema_id,
            "digest": validated["digest"],
            "gate": bench.gate,
            "gate_passed": str(validated["passed"]).lower(),
        },
    )
    with tempfile.TemporaryDirectory() as directory_name:
        fetched = bench.registry.download(name, version, Path(directory_name))
        Model.load(fetched, validated["digest"], bench.contract)
    return version


def _record(
    connection: Connection,
    bench: Bench,
    version: str,
    manifest: Manifest,
    validated: dict[str, Any],
) -> None:
    """The row services check a model against, committed before any alias names the version."""
    row = {
        "name": bench.contract.registered_model,
        "version": version,
        "mlflow_run_id": bench.run.step("train")["mlflow_run_id"],
        "contract": bench.contract.schema_id,
        "digest": validated["digest"],
        "gate_policy": validated["gate"]["policy"],
        "gate_passed": validated["passed"],
        "gate_outcome": Json(validated["gate"]),
        "metrics": Json(validated["metrics"]),
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
        cursor.execute(statement, row)


def _alias(
    connection: Connection, bench: Bench, version: str, validated: dict[str, Any], *, promote: bool
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
            details |= {"digest": validated["digest"], "gate": validated["sentence"]}
        # The entry stands only if the alias was set, and no alias is set that could not be recorded.
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT audit_append(%s, %s, %s, %s)",
                (ACTOR, "model_alias_set", f"{name}@{alias}", Json(details)),
            )
            bench.tracking().set_alias(name, alias, target)
    return aliases
