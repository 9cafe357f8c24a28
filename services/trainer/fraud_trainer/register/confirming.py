"""Before a version is registered: recomputes what `validate` wrote, and compares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import interruptible, model_versions
from fraud_core import manifest as manifests
from fraud_core import profile as profiles
from fraud_core.gate import GateOutcome
from fraud_core.manifest import Manifest
from fraud_core.profile import Profile
from fraud_trainer.evaluate.judgement import Judgement
from fraud_trainer.run_context import RunContext

_TOLERANCE: Final = 1e-6  # relative, because the figures may be recomputed on another kind of processor


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is registered: the manifest as `validate` wrote it, and the gate's outcome as computed here."""

    manifest: Manifest
    digest: str
    gate: GateOutcome


def confirm_verdict(context: RunContext, step: Step, judgement: Judgement) -> Verdict:
    """The verdict of `validate`, if the recomputed manifest and verdict equal it.

    Raises:
        LastingFailure: they differ.
    """
    manifest = Manifest.from_json(context.run.get(manifests.FILE_NAME, step["digest"]))
    where = f"{context.run.prefix}/validate.json"
    recomputed = judgement.manifest
    if _profile_is_recomputed(context, manifest, judgement):
        recomputed = recomputed.model_copy(update={"digests": manifest.digests})
    if differing := _first_difference(manifest, recomputed):
        raise LastingFailure(
            f"{where} does not describe the model that train left: {differing} differs; run validate again."
        )
    terms, passed = _gate_terms(judgement.gate.to_mapping()), judgement.gate.passed
    if (_gate_terms(step["gate"]), step["passed"]) != (terms, passed):
        raise LastingFailure(
            f"{where} holds another verdict than the gate gives now ({judgement.gate.sentence()}): "
            "run validate again."
        )
    return Verdict(manifest, step["digest"], judgement.gate)


def _profile_is_recomputed(context: RunContext, manifest: Manifest, judgement: Judgement) -> bool:
    """Whether the files are the same, apart from a profile whose numbers are within the tolerance."""
    recorded = manifest.digests.get(profiles.FILE_NAME, "")
    others = ({**of.digests, profiles.FILE_NAME: ""} for of in (manifest, judgement.manifest))
    if not recorded or next(others) != next(others):
        return False
    content = Profile.from_json(context.run.get(profiles.FILE_NAME, recorded)).model_dump(mode="json")
    return _same(content, judgement.profile.model_dump(mode="json"))


def _same(recorded: Any, recomputed: Any) -> bool:
    """Whether two JSON values are equal, numbers within the tolerance."""
    if isinstance(recorded, dict) and isinstance(recomputed, dict):
        return recorded.keys() == recomputed.keys() and all(
            _same(recorded[k], recomputed[k]) for k in recorded
        )
    if isinstance(recorded, list) and isinstance(recomputed, list):
        return len(recorded) == len(recomputed) and all(map(_same, recorded, recomputed))
    if isinstance(recorded, float) and isinstance(recomputed, float):
        return _close(recorded, recomputed)
    return bool(recorded == recomputed)


def _first_difference(recorded: Manifest, recomputed: Manifest) -> str | None:
    """The name of the first field or figure that differs."""
    figures = {*recorded.metrics, *recomputed.metrics}
    for name in sorted(figures):
        if not _close(recorded.metrics.get(name), recomputed.metrics.get(name)):
            return name
    same = recomputed.model_copy(update={"metrics": recorded.metrics})
    fields = (name for name in Manifest.model_fields if getattr(recorded, name) != getattr(same, name))
    return next(fields, None)


def _close(recorded: float | None, recomputed: float | None) -> bool:
    if recorded is None or recomputed is None:
        return recorded is recomputed
    return math.isclose(recorded, recomputed, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _gate_terms(gate: Any) -> list[Any] | None:
    """The criteria of a gate, or None if they cannot be read."""
    try:
        checks = [(check["metric"], check["side"], check["bound"]) for check in gate["checks"]]
        return [gate["policy"], gate["frauds_needed"], checks]
    except (KeyError, TypeError):
        return None


def refuse_conflicting_version(
    connection: Connection, context: RunContext, run_id: str, version: str | None, verdict: Verdict
) -> None:
    """Check that this run or version is not registered with another manifest or another verdict.

    Raises:
        LastingFailure: it is registered with another one.
    """
    name = context.contract.registered_model
    with connection, connection.cursor() as cursor:
        recorded = interruptible(
            connection, lambda: model_versions.read_verdicts(cursor, name, run_id, version)
        )
    # Includes versions whose record is missing because the job was killed in between.
    registered = {
        version_of_run.version: version_of_run.tags.get("digest")
        for version_of_run in context.tracked.versions(run_id)
    }
    for known, digest in [*registered.items(), *((row.version, row.digest) for row in recorded)]:
        if digest != verdict.digest:
            raise LastingFailure(
                f"Version {known} of {name} is recorded with another manifest than {context.run.prefix} "
                "holds: train again, a version's files never change."
            )
    for row in recorded:
        if (row.gate_policy, row.gate_passed) != (verdict.gate.policy, verdict.gate.passed):
            raise LastingFailure(
                f"Version {row.version} of {name} is recorded with another verdict (gate {row.gate_policy} "
                f"{'passed' if row.gate_passed else 'failed'}): train again, a version is judged once."
            )
