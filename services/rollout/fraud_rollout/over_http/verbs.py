"""The verbs `check-health`, `test-endpoints` and `shadow`, before the version decides anything."""

from __future__ import annotations

import argparse
from time import monotonic, sleep
from typing import Any, Final

import orjson

from config.job_results.rollout import EndpointsResult, ReleaseResult
from config.services import Backend
from fraud_adapters.api_session import ApiUnavailable
from fraud_adapters.deployments_client import Deployment
from fraud_adapters.job.failures import LastingFailure, RefusedFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.objectstore.run_store import RunStore
from fraud_adapters.replica_client import ReleaseReplica
from fraud_core.canary.http_release import RELEASE_REPLICA
from fraud_rollout.arguments import LONGEST_REASON, Verb, patience_option
from fraud_rollout.chosen_deployment import described, find
from fraud_rollout.over_http.endpoints import Expected, check_endpoints
from fraud_rollout.run_context import RunContext
from fraud_rollout.validation.findings import reason_of, refuses

FILE: Final = "endpoints.json"
CALLS: Final = 100  # whose latency is measured
_EVERY_S: Final = 0.5
_VALIDATED: Final = "validated"


def check_health(context: RunContext, options: argparse.Namespace) -> ReleaseResult:
    """Wait until the gateway leads to a replica that is ready with the version.

    Raises:
        LastingFailure: there is no such replica in time; the sentence says what answers instead.
    """
    deployment = find(context.api, options)
    deadline = monotonic() + options.patience
    with context.replica() as replica:
        while (problem := _problem(replica, deployment["version"])) is not None:
            if monotonic() > deadline:
                raise LastingFailure(problem)
            sleep(_EVERY_S)
    return described(
        deployment, f"The replica behind the gateway is ready with version {deployment['version']}."
    )


def run_endpoint_tests(context: RunContext, options: argparse.Namespace) -> EndpointsResult:
    """Test what clients rely on; a version whose replica fails is rolled back.

    Raises:
        RefusedFailure: a test failed; the sentence names what is wrong.
        LastingFailure: the deployment has traffic or has ended: its replica would store the tests.
    """
    deployment = find(context.api, options)
    if deployment["state"] != _VALIDATED:
        raise LastingFailure(
            f"The deployment is {deployment['state']}: its endpoints are tested once it is validated."
        )
    expected = Expected(
        contract=context.contract,
        version=deployment["version"],
        prefix=f"release-{deployment['deployment_id']}",
        engine_tolerance=context.parameters.rollout.engine_tolerance,
        max_latency_ms=context.parameters.release.judgement.max_latency_ms,
        calls=CALLS,
    )
    findings = []
    with context.replica() as replica:
        for finding in check_endpoints(replica, expected):
            get_logger(__name__).info("tested", **finding)
            findings.append(finding)
    _folder(context, deployment).put(FILE, orjson.dumps({"checks": findings}))
    reason = reason_of(findings)
    if refuses(findings):
        deployment = context.api.roll_back(
            deployment["deployment_id"], reason[:LONGEST_REASON], withdrawn=False
        )
    result: EndpointsResult = {**described(deployment, reason), "findings": findings}
    if refuses(findings):
        raise RefusedFailure(f"Version {deployment['version']} gets no requests: {reason}", result)
    return result


def shadow(context: RunContext, options: argparse.Namespace) -> ReleaseResult:
    """Let the version score all requests in parallel; its endpoints must have been tested.

    Raises:
        LastingFailure: the endpoints were not tested.
        ApiRefused: the deployment is not of mode http, or in a state that this does not follow.
    """
    deployment = find(context.api, options)
    tests: dict[str, Any] = orjson.loads(_folder(context, deployment).read(FILE))
    deployment = context.api.shadow(deployment["deployment_id"], tests)
    return described(
        deployment,
        f"Version {deployment['version']} scores every request in parallel and decides nothing "
        f"until {deployment['window_ends']}.",
    )


def _problem(replica: ReleaseReplica, version: str) -> str | None:
    """Why the replica cannot be tested yet."""
    try:
        name, serves = replica.ready()
    except ApiUnavailable as error:
        return f"The API at {replica.url} does not answer: {error}"
    if name == RELEASE_REPLICA and serves == version:
        return None
    if name == RELEASE_REPLICA:
        return f"The replica of the release serves version {serves}, not {version}."
    if name:
        return (
            f"{replica.url} leads to the champion's replicas alone: API_URL must be the gateway's address, "
            "and the gateway must ask the API for its routes."
        )
    return "The replica of the release (API_REPLICA=release) is not ready: its log says why."


def _folder(context: RunContext, deployment: Deployment) -> RunStore:
    return context.folder(deployment["run_id"] or f"deployment-{deployment['deployment_id']}")


VERBS: Final[tuple[Verb, ...]] = (
    Verb(
        "check-health",
        "wait until the replica of a release over HTTP is ready behind the gateway",
        check_health,
        add_options=patience_option,
    ),
    Verb(
        "test-endpoints",
        "test what clients rely on, by HTTP, before the replica gets any requests",
        run_endpoint_tests,
        needs=(Backend.OBJECT_STORE,),
    ),
    Verb(
        "shadow",
        "let the version score all requests in parallel, and decide nothing",
        shadow,
        needs=(Backend.OBJECT_STORE,),
    ),
)
