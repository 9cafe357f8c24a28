"""The verb `validate`: opens a deployment, and checks its version before it gets any traffic."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, Final

import numpy as np
import orjson

from config.constants import ALIAS_CHALLENGER
from config.job_results.rollout import FindingResult, ValidationResult
from config.services import Backend
from config.settings import ConfigurationError
from fraud_adapters.deployments_client import Deployment
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres.examples import database_clock
from fraud_core.canary.comparison import Agreement
from fraud_core.canary.evidence import Paired
from fraud_rollout.arguments import LONGEST_REASON, Verb, validate_options
from fraud_rollout.chosen_deployment import described, findings_of
from fraud_rollout.run_context import RunContext
from fraud_rollout.validation.beside_champion import (
    compare_decisions,
    judge_agreement,
    judge_replay,
    replay,
)
from fraud_rollout.validation.findings import failed, insufficient, passed, reason_of, refuses
from fraud_rollout.validation.history import labelled_rows, recent_rows
from fraud_rollout.validation.latency import check_latency
from fraud_rollout.validation.memory import check_memory
from fraud_rollout.validation.scores import check_scores, golden_rows
from fraud_rollout.validation.versions import (
    Features,
    LoadedVersion,
    fetched_version,
    load_version,
)

FILE: Final = "validation.json"
VALIDATING: Final = "validating"
REFUSED: Final = "refused"


@dataclass(slots=True)
class Validation:
    """What was found of a version so far."""

    findings: list[FindingResult] = field(default_factory=list)
    agreement: Agreement | None = None
    paired: Paired | None = None

    @property
    def passed(self) -> bool:
        return not refuses(self.findings)

    @property
    def reason(self) -> str:
        """What the findings come to, as long as the API takes it."""
        return reason_of(self.findings)[:LONGEST_REASON]

    def to_mapping(self) -> dict[str, Any]:
        """As it is sent to the API and stored with the run."""
        return {
            "checks": self.findings,
            "agreement": None if self.agreement is None else asdict(self.agreement),
        }


def validate(context: RunContext, options: argparse.Namespace) -> ValidationResult:
    """Open the deployment of the run, or find it again, and check its version.

    Raises:
        ApiRefused: there is no such version, it did not pass its gate, or another deployment is running.
        RefusedFailure: the version must not have traffic; the sentence names the checks that failed.
    """
    started = monotonic()
    deployment = context.api.open(_wanted(context, options.version), options.run_id, options.mode)
    if deployment["state"] != VALIDATING:
        return _validated_before(context, context.api.get(deployment["deployment_id"]), options.run_id)
    found = check(context, deployment)
    reason, paired = found.reason, asdict(found.paired) if found.paired else None
    content = {"deployment": deployment, "passed": found.passed, "reason": reason, "paired": paired}
    context.folder(options.run_id).put(FILE, orjson.dumps({**content, **found.to_mapping()}))
    # Reported last: a repetition of what was killed before begins anew.
    deployment = context.api.report_validation(
        deployment["deployment_id"],
        passed=found.passed,
        reason=reason,
        findings=found.to_mapping(),
        paired=paired,
    )
    result = _result(context, deployment, options.run_id, found.findings, paired, started)
    return _unless_refused(result)


def check(context: RunContext, deployment: Deployment) -> Validation:
    """All checks; those that need the version's model are left out if it cannot be loaded."""
    validation = Validation()
    for finding in _checks(context, deployment, validation):
        get_logger(__name__).info("checked", **finding)
        validation.findings.append(finding)
    return validation


def _checks(context: RunContext, deployment: Deployment, into: Validation) -> Iterator[FindingResult]:
    rules = context.parameters.rollout
    try:
        with fetched_version(context, deployment["version"]) as files:
            version = load_version(context, files)
            memory = check_memory(files.directory, files.digest, context.contract, rules.max_memory_mib)
    except ModelRefused as refused:
        yield failed("files", str(refused))
        return
    yield passed(
        "files", "The files are those that were recorded, for this contract, and the gate was passed."
    )
    yield memory
    yield from _checks_of_model(context, version, _champion(context, deployment["previous_version"]), into)


def _checks_of_model(
    context: RunContext, version: LoadedVersion, champion: LoadedVersion | str, into: Validation
) -> Iterator[FindingResult]:
    """The checks of a version that could be loaded; `champion` may be why there is none to compare with."""
    rules = context.parameters.rollout
    with closing(context.database()) as connection:
        now = database_clock(connection)
        recent = recent_rows(connection, context.contract, now, rules.agreement)
    scores = list(check_scores(version, recent.features, rules.engine_tolerance))
    yield from scores
    if refuses(scores):
        # What is measured or compared would be of scores that mean nothing.
        return
    rows, bound_ms = (
        _rows_to_time(version, recent.features),
        context.parameters.release.judgement.max_latency_ms,
    )
    if isinstance(champion, str):
        yield from check_latency(version.model, None, rows, rules.latency, bound_ms)
        yield insufficient("champion", champion)
        return
    yield from check_latency(version.model, champion.model, rows, rules.latency, bound_ms)
    into.agreement = compare_decisions(version.model, champion.model, recent)
    yield judge_agreement(into.agreement, rules.agreement)
    yield from _replayed(context, version, champion, into)


def _replayed(
    context: RunContext, version: LoadedVersion, champion: LoadedVersion, into: Validation
) -> Iterator[FindingResult]:
    rules = context.parameters.rollout.replay
    with closing(context.database()) as connection:
        rows = labelled_rows(
            connection,
            context.contract,
            database_clock(connection),
            [version.model.manifest, champion.model.manifest],
            test_share=context.parameters.training.test_share,
            rules=rules,
        )
    counts = replay(version.model, champion.model, rows)
    if len(rows):
        into.paired = counts
    yield from judge_replay(counts, context.parameters.release.judgement, rules.confidence)


def _champion(context: RunContext, version: str | None) -> LoadedVersion | str:
    """The champion, or why there is nothing to compare with."""
    if version is None:
        return "There is no champion to compare with."
    try:
        with fetched_version(context, version) as files:
            return load_version(context, files)
    except ModelRefused as refused:
        return f"The champion, version {version}, cannot be compared with: {refused}"


def _rows_to_time(version: LoadedVersion, recent: Features) -> Features:
    golden = golden_rows(version)
    if len(recent):
        return recent
    return golden if len(golden) else np.zeros((1, golden.shape[1]), dtype=np.float32)


def _wanted(context: RunContext, wanted: str) -> str | None:
    """The version's number; None has the API take the challenger.

    Raises:
        ConfigurationError: there is no such alias.
    """
    if wanted.isdecimal():
        return wanted
    if wanted == ALIAS_CHALLENGER:
        return None
    name = context.contract.registered_model
    version = context.registry().version_of_alias(name, wanted)
    if version is None:
        raise ConfigurationError(
            f"--version: {name} has no alias {wanted}: name a version or an alias it has."
        )
    return version


def _validated_before(context: RunContext, deployment: Deployment, run_id: str) -> ValidationResult:
    """A repetition gives the result of the first time."""
    findings = findings_of(deployment)
    return _unless_refused(_result(context, deployment, run_id, findings, None, monotonic()))


def _result(  # noqa: PLR0917
    context: RunContext,
    deployment: Deployment,
    run_id: str,
    findings: list[FindingResult],
    paired: dict[str, int] | None,
    started: float,
) -> ValidationResult:
    reason = deployment["reason"] or reason_of(findings)
    state = deployment["state"]
    return {
        **described(deployment, f"Version {deployment['version']} is {state}: {reason}"),
        "dag": context.dag,
        "run_id": run_id,
        "passed": state != REFUSED,
        "reason": reason,
        "findings": findings,
        "paired": paired,
        "seconds": round(monotonic() - started, 3),
    }


def _unless_refused(result: ValidationResult) -> ValidationResult:
    if not result["passed"]:
        raise RefusedFailure(f"Version {result['version']} gets no traffic: {result['reason']}", result)
    return result


VERBS: Final[tuple[Verb, ...]] = (
    Verb(
        "validate",
        "open a deployment of a version, and check the version before it gets any traffic",
        validate,
        needs=(Backend.POSTGRES, Backend.MLFLOW, Backend.OBJECT_STORE),
        opens=True,
        add_options=validate_options,
    ),
)
