"""The verbs that move a deployment on: traffic, judgement, promotion, and the way back."""

from __future__ import annotations

import argparse
from time import sleep
from typing import Final

from config.job_results.rollout import EndResult, EvaluationResult, ReleaseResult
from config.release import HttpRelease, Release
from config.services import Backend
from config.settings import ConfigurationError
from fraud_adapters.deployments_client import ENDED, Deployment, Evaluation
from fraud_adapters.job import NothingToDo
from fraud_adapters.job.logs import get_logger
from fraud_core.canary.lifecycle import Mode
from fraud_rollout.arguments import (
    Verb,
    abort_options,
    force_options,
    percent_option,
    reason_options,
    wait_option,
)
from fraud_rollout.chosen_deployment import NoDeployment, described, find, latest_verdict
from fraud_rollout.report import publish
from fraud_rollout.run_context import RunContext

ABORTED_BY_PERSON: Final = "A person stopped it."
_UNDECIDED: Final = "A step of the release failed before its evidence was judged."
_TITLES: Final = {
    "promoted": "Version {version} is champion",
    "rolled_back": "Version {version} was rolled back",
    "withdrawn": "Version {version} was withdrawn",
    "aborted": "The release of version {version} was stopped",
    "refused": "Version {version} was refused before it got traffic",
}
_SEVERITIES: Final = {"rolled_back": "high", "withdrawn": "medium"}


def deploy(context: RunContext, options: argparse.Namespace) -> ReleaseResult:
    """Give the version a share of the traffic, the next one if none is named.

    Raises:
        ApiRefused: the version was not validated, or what it showed so far does not allow a larger share.
    """
    deployment = find(context.api, options)
    percent = options.percent or _next_percent(context, deployment)
    deployment = context.api.set_traffic(deployment["deployment_id"], percent)
    return described(
        deployment,
        f"Version {deployment['version']} serves {deployment['traffic_percent']} % of the traffic "
        f"until {deployment['window_ends']}.",
    )


def evaluate(context: RunContext, options: argparse.Namespace) -> EvaluationResult:
    """Judge the stage so far; with --wait, until it is decided.

    Raises:
        ApiRefused: the deployment has no traffic yet.
    """
    deployment = find(context.api, options)
    found, window = context.api.evaluate(deployment["deployment_id"]), None
    while options.wait and found["next"] == "wait":
        if found["window_ends"] != window:
            window = found["window_ends"]
            get_logger(__name__).info("waiting", sentence=found["sentence"], window_ends=window)
        sleep(options.every)
        found = context.api.evaluate(deployment["deployment_id"])
    return _evaluated(context.api.get(deployment["deployment_id"]), found)


def promote(context: RunContext, options: argparse.Namespace) -> EndResult:
    """Make the version champion, and report on its release.

    Raises:
        ApiRefused: the verdict on the last stage is not to promote.
    """
    if options.force and not options.reason:
        raise ConfigurationError("--force: say by --reason why the version is promoted whatever the verdict.")
    deployment = find(context.api, options)
    context.api.promote(deployment["deployment_id"], force=options.force, reason=options.reason)
    return _ended(context, deployment["deployment_id"])


def roll_back(context: RunContext, options: argparse.Namespace) -> EndResult:
    """Take the version back, if it is not decided already, and report on its release.

    Raises:
        NothingToDo: the run opened no deployment, or the deployment was promoted, refused or stopped.
    """
    try:
        deployment = find(context.api, options)
    except NoDeployment as nothing:
        raise NothingToDo(str(nothing)) from None
    if deployment["state"] in {"promoted", "refused", "aborted"}:
        raise NothingToDo(f"The deployment {deployment['deployment_id']} is {deployment['state']} already.")
    if deployment["state"] not in ENDED:
        reason, withdrawn = _cause(deployment)
        if options.reason is not None:
            reason, withdrawn = options.reason, options.withdrawn
        context.api.roll_back(deployment["deployment_id"], reason, withdrawn=withdrawn or options.withdrawn)
    return _ended(context, deployment["deployment_id"])


def abort(context: RunContext, options: argparse.Namespace) -> EndResult:
    """Stop a deployment: the champion serves everything again within seconds."""
    deployment = find(context.api, options)
    context.api.abort(deployment["deployment_id"], options.reason or ABORTED_BY_PERSON)
    return _ended(context, deployment["deployment_id"])


def _next_percent(context: RunContext, deployment: Deployment) -> int:
    release = context.parameters.release
    shares: Release | HttpRelease = release.http if deployment["mode"] == Mode.HTTP else release
    if deployment["state"] in {"validating", "validated", "shadow"}:
        return shares.canary_percent
    return max(shares.widened_percent, deployment["traffic_percent"])


def _cause(deployment: Deployment) -> tuple[str, bool]:
    """Why the version is taken back, and whether that is without evidence against it."""
    verdict = latest_verdict(deployment)
    if verdict is None:
        return _UNDECIDED, True
    sentence = str(verdict.get("sentence") or _UNDECIDED)
    if verdict.get("verdict") == "promote":
        return f"A step of the release failed after the verdict to promote. {sentence}", True
    return sentence, verdict.get("verdict") != "roll_back"


def _evaluated(deployment: Deployment, found: Evaluation) -> EvaluationResult:
    sentence = found["sentence"] or f"The deployment is {found['state']}."
    return {
        **described(deployment, sentence),
        "verdict": found["verdict"],
        "sentence": sentence,
        "next": found["next"],  # type: ignore[typeddict-item]
        "window_ends": found["window_ends"],
        "extensions": found["extensions"],
    }


def _ended(context: RunContext, deployment_id: int) -> EndResult:
    """What is told of a deployment that has ended, with its report."""
    deployment = context.api.get(deployment_id)
    state = deployment["state"]
    title = _TITLES.get(state, "The release of version {version} goes on").format(**deployment)
    report, problem = publish(context, deployment, title)
    return {
        **described(deployment, deployment["reason"] or f"{title}."),
        "reason": deployment["reason"],
        "title": title,
        "severity": _SEVERITIES.get(state, "none"),  # type: ignore[typeddict-item]
        "report": report,
        "problems": [problem] if problem else [],
    }


VERBS: Final[tuple[Verb, ...]] = (
    Verb("deploy", "give the version a share of the traffic", deploy, add_options=percent_option),
    Verb("evaluate", "judge the stage so far", evaluate, add_options=wait_option),
    Verb(
        "promote",
        "make the version champion",
        promote,
        needs=(Backend.OBJECT_STORE,),
        add_options=force_options,
    ),
    Verb(
        "rollback",
        "take the version back; does nothing if it was promoted or refused",
        roll_back,
        needs=(Backend.OBJECT_STORE,),
        add_options=reason_options,
    ),
    Verb(
        "abort",
        "stop a deployment at once, whatever its evidence says",
        abort,
        add_options=abort_options,
    ),
)
