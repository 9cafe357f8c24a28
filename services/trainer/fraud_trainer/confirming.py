"""Before a version is made: what `validate` wrote must come out again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import interruptible, model_versions
from fraud_core import manifest as manifests
from fraud_core.gate import GateOutcome
from fraud_core.manifest import Manifest
from fraud_trainer.run_context import RunContext
from fraud_trainer.validating import Judgement

_TOLERANCE: Final = 1e-6  # of a figure that is computed again, perhaps on a processor of another make


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is registered: the manifest as `validate` wrote it, and the gate's outcome as computed here."""

    manifest: Manifest
    digest: str
    gate: GateOutcome


def confirmed(context: RunContext, step: Step, again: Judgement) -> Verdict:
    """The verdict, where what `validate` wrote is what comes out again.

    Raises:
        LastingFailure: it is not.
    """
    manifest = Manifest.from_json(context.run.get(manifests.FILE_NAME, step["digest"]))
    where = f"{context.run.prefix}/validate.json"
    if differing := _differing(manifest, again.manifest):
        raise LastingFailure(
            f"{where} does not describe the model that train left: {differing} differs; run validate again."
        )
    terms, passed = _terms(again.gate.to_mapping()), again.gate.passed
    if (_terms(step["gate"]), step["passed"]) != (terms, passed):
        raise LastingFailure(
            f"{where} holds another verdict than the gate gives now ({again.gate.sentence()}): "
            "run validate again."
        )
    return Verdict(manifest, step["digest"], again.gate)


def _differing(one: Manifest, other: Manifest) -> str | None:
    """The name of the first field or figure that is not the same in both."""
    figures = {*one.metrics, *other.metrics}
    for name in sorted(figures):
        if not _close(one.metrics.get(name), other.metrics.get(name)):
            return name
    same = other.model_copy(update={"metrics": one.metrics})
    fields = (name for name in Manifest.model_fields if getattr(one, name) != getattr(same, name))
    return next(fields, None)


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _terms(gate: Any) -> list[Any] | None:
    """By what a gate judged, or None where that cannot be read."""
    try:
        checks = [(check["metric"], check["side"], check["bound"]) for check in gate["checks"]]
        return [gate["policy"], gate["frauds_needed"], checks]
    except (KeyError, TypeError):
        return None


def refuse_another(
    connection: Connection, context: RunContext, run_id: str, version: str | None, verdict: Verdict
) -> None:
    """Refuse to go on where this run or version is known with another manifest or another verdict.

    Raises:
        LastingFailure: it is.
    """
    name = context.contract.registered_model
    with connection, connection.cursor() as cursor:
        recorded = interruptible(
            connection, lambda: model_versions.read_verdicts(cursor, name, run_id, version)
        )
    # A version whose record was never written, since the job was killed in between.
    registered = {made.version: made.tags.get("digest") for made in context.tracked.versions(run_id)}
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
