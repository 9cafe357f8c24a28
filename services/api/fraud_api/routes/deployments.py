"""Releases of model versions: canary, judgement, promotion and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_adapters.postgres.deployments import Deployment as StoredDeployment
from fraud_api.access import Deployer, Reader
from fraud_api.dependencies import ApiService
from fraud_api.openapi import problems
from fraud_api.releases.releases import Releases
from fraud_core.canary import evidence as core
from fraud_core.canary.judgement import Judgement as Judged
from fraud_core.canary.lifecycle import JUDGED, Action, Mode, State

router = APIRouter(prefix="/deployments", tags=["deployments"])

MAX_LISTED: Final = 200
MAX_TEXT: Final = 2000
Identifier = Annotated[int, Path(ge=1, le=2**62)]
Sentence = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Count = Annotated[int, Field(ge=0)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OpenRequest(_Body):
    """What to release; every member may be left out."""

    version: str | None = Field(
        default=None, max_length=20, description="the version; by default the one with the alias challenger"
    )
    mode: Mode = Field(
        default=Mode.CANARY,
        description="canary: the API gives it a share of the cards; http: the gateway one of the requests",
        strict=False,
    )
    run_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="of whatever drives it; finds the same release",
    )


class Paired(_Body):
    """What both models said of the same labelled transactions, each at its own threshold."""

    frauds: Count
    both: Count = Field(description="frauds that both caught")
    champion_only: Count
    candidate_only: Count
    legitimate: Count
    false_both: Count = Field(description="legitimate transactions that both flagged")
    false_champion_only: Count
    false_candidate_only: Count

    @model_validator(mode="after")
    def _parts_within_the_whole(self) -> Paired:
        core.Paired(**self.model_dump())
        return self


class ValidationRequest(_Body):
    """The result of the checks before any traffic."""

    passed: bool
    reason: Sentence
    findings: dict[str, Any] = Field(default_factory=dict)
    paired: Paired | None = None


class ShadowRequest(_Body):
    findings: dict[str, Any] = Field(
        default_factory=dict, description="of the tests of its replica, kept with the event"
    )


class TrafficRequest(_Body):
    percent: int = Field(ge=1, le=99, description="of the cards, which only grows")


class PromoteRequest(_Body):
    force: bool = Field(default=False, description="promote although the verdict is another one")
    reason: Sentence | None = None


class RollBackRequest(_Body):
    reason: Sentence
    withdrawn: bool = Field(default=False, description="the evidence was not enough, rather than against it")


class AbortRequest(_Body):
    reason: Sentence = "A person stopped it."


class Event(BaseModel):
    at: datetime
    kind: str
    details: dict[str, Any]


class Deployment(BaseModel):
    """A release of a model version."""

    deployment_id: int
    name: str
    version: str
    previous_version: str | None = Field(description="the champion when the release was opened")
    mode: Mode
    state: State
    traffic_percent: int
    run_id: str | None
    reason: str | None = Field(description="why it is in its state, where somebody said so")
    started_at: datetime
    stage_started_at: datetime | None
    window_ends: datetime | None = Field(description="of the stage in traffic")
    extensions: int
    ended_at: datetime | None


class Arm(BaseModel):
    """What one arm did in the current stage."""

    calls: int
    errors: int
    slow: int
    rows: int
    flagged: int
    scores: list[int]


class Labelled(BaseModel):
    """The transactions of one arm with a mature label."""

    frauds: int
    caught: int
    legitimate: int
    false_alarms: int


class LiveLabels(BaseModel):
    control: Labelled
    canary: Labelled


class RequestCounts(BaseModel):
    """The scoring requests that one arm's replicas answered."""

    requests: int
    failed: int
    slow: int


class Requests(BaseModel):
    """Null where an arm's metrics cannot be read."""

    control: RequestCounts | None
    canary: RequestCounts | None


class Evidence(BaseModel):
    control: Arm
    canary: Arm
    share: float
    paired: Paired | None
    live: LiveLabels | None = Field(description="what is known of the truth about the stage's traffic")
    requests: Requests | None = Field(description="of mode http: what clients see of each arm's replicas")


class Check(BaseModel):
    name: str
    outcome: str
    value: float | None
    low: float | None
    high: float | None
    bound: float | None
    sentence: str


class Judgement(BaseModel):
    verdict: Literal["promote", "roll_back", "inconclusive"]
    sentence: str
    checks: list[Check]


class DeploymentDetails(Deployment):
    """With its history; in traffic, with the evidence so far and what it says now."""

    findings: dict[str, Any] | None
    events: list[Event]
    evidence: Evidence | None
    judgement: Judgement | None


class DeploymentList(BaseModel):
    deployments: list[Deployment] = Field(description="the newest first")


class Evaluation(BaseModel):
    """The verdict on the stage so far, and what follows from it."""

    verdict: Literal["promote", "roll_back", "inconclusive"] | None = Field(
        description="null where the release has ended"
    )
    sentence: str
    next: Literal["wait", "advance", "roll_back", "withdraw"]
    window_ends: datetime | None
    extensions: int
    state: State


@router.get("", summary="The releases")
def list_deployments(
    _: Reader, backend: ApiService, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20
) -> DeploymentList:
    releases = backend.releases
    return DeploymentList(deployments=[_shown(releases, one) for one in releases.latest(limit)])


@router.get("/{deployment_id}", summary="A release with its history", responses=problems(404))
def get_deployment(_: Reader, backend: ApiService, deployment_id: Identifier) -> DeploymentDetails:
    releases = backend.releases
    release = releases.get(deployment_id)
    evidence = releases.evidence(release) if release.state in JUDGED else None
    found = releases.judgement(evidence) if evidence else None
    return DeploymentDetails(
        **_described(releases, release),
        findings=release.findings,
        events=[
            Event(at=event.occurred_at, kind=event.kind, details=event.details or {})
            for event in releases.events(deployment_id)
        ],
        evidence=_evidence(evidence) if evidence else None,
        judgement=_judgement(found) if found else None,
    )


@router.post("", status_code=201, summary="Open a release", responses=problems(400, 409, 422, 503))
def open_deployment(
    identity: Deployer, backend: ApiService, response: Response, request: OpenRequest | None = None
) -> Deployment:
    """The version gets no traffic yet. The same `run_id` again finds the release: status 200."""
    wanted, releases = request or OpenRequest(), backend.releases
    release, new = releases.open(identity.client_id, wanted.version, wanted.run_id, wanted.mode)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/deployments/{release.deployment_id}"
    return _shown(releases, release)


@router.post("/{deployment_id}/validation", summary="Store the validation", responses=problems(400, 404, 409))
def validate_deployment(
    identity: Deployer, backend: ApiService, deployment_id: Identifier, request: ValidationRequest
) -> Deployment:
    """`passed` lets the release have traffic; otherwise it ends as refused."""
    releases = backend.releases
    paired = None if request.paired is None else core.Paired(**request.paired.model_dump())
    release = releases.validated(
        identity.client_id, deployment_id, request.passed, request.reason, request.findings, paired
    )
    return _shown(releases, release)


@router.post("/{deployment_id}/shadow", summary="Let it score in parallel", responses=problems(400, 404, 409))
def shadow_deployment(
    identity: Deployer,
    backend: ApiService,
    deployment_id: Identifier,
    request: ShadowRequest | None = None,
) -> Deployment:
    """Of mode http, before it gets traffic: the gateway copies every scoring request to its replica."""
    asked, releases = request or ShadowRequest(), backend.releases
    return _shown(releases, releases.shadow(identity.client_id, deployment_id, asked.findings))


@router.post(
    "/{deployment_id}/traffic", summary="Give it a share of traffic", responses=problems(400, 404, 409)
)
def set_traffic(
    identity: Deployer, backend: ApiService, deployment_id: Identifier, request: TrafficRequest
) -> Deployment:
    """The first share needs a validation that passed, a larger one the verdict to promote."""
    releases = backend.releases
    return _shown(releases, releases.traffic(identity.client_id, deployment_id, request.percent))


@router.post("/{deployment_id}/evaluate", summary="Judge the stage so far", responses=problems(404, 409))
def evaluate_deployment(identity: Deployer, backend: ApiService, deployment_id: Identifier) -> Evaluation:
    """Evidence against the release ends it at once; a stage without evidence enough is extended."""
    found = backend.releases.evaluate(identity.client_id, deployment_id)
    return Evaluation(
        verdict=found.judgement.verdict.value if found.judgement else None,
        sentence=found.sentence,
        next=found.next,
        window_ends=backend.releases.window_ends(found.deployment),
        extensions=found.deployment.extensions,
        state=found.deployment.state,
    )


@router.post("/{deployment_id}/promote", summary="Make it champion", responses=problems(400, 404, 409, 503))
def promote_deployment(
    identity: Deployer,
    backend: ApiService,
    deployment_id: Identifier,
    request: PromoteRequest | None = None,
) -> Deployment:
    """The verdict on the last stage must be to promote; the champion becomes `previous`."""
    asked, releases = request or PromoteRequest(), backend.releases
    release = releases.promote(identity.client_id, deployment_id, force=asked.force, reason=asked.reason)
    return _shown(releases, release)


@router.post("/{deployment_id}/rollback", summary="Take it back", responses=problems(400, 404, 409))
def roll_back_deployment(
    identity: Deployer, backend: ApiService, deployment_id: Identifier, request: RollBackRequest
) -> Deployment:
    """The champion serves everything again within seconds."""
    action = Action.WITHDRAW if request.withdrawn else Action.ROLL_BACK
    return _end(backend, identity.client_id, deployment_id, action, request.reason)


@router.post("/{deployment_id}/abort", summary="Stop it", responses=problems(400, 404, 409))
def abort_deployment(
    identity: Deployer, backend: ApiService, deployment_id: Identifier, request: AbortRequest | None = None
) -> Deployment:
    """As a roll back, by a person and for no reason that the evidence gives."""
    asked = request or AbortRequest()
    return _end(backend, identity.client_id, deployment_id, Action.ABORT, asked.reason)


def _end(backend: ApiService, actor: str, deployment_id: int, action: Action, reason: str) -> Deployment:
    releases = backend.releases
    release = releases.end(actor, deployment_id, action, reason)
    backend.release_watch.poll()  # this replica at once, others within a second
    return _shown(releases, release)


def _shown(releases: Releases, release: StoredDeployment) -> Deployment:
    return Deployment(**_described(releases, release))


def _described(releases: Releases, release: StoredDeployment) -> dict[str, Any]:
    names = Deployment.model_fields.keys() - {"window_ends"}
    return {name: getattr(release, name) for name in names} | {"window_ends": releases.window_ends(release)}


def _evidence(evidence: core.Evidence) -> Evidence:
    content: Mapping[str, Any] = asdict(evidence)
    return Evidence(
        control=Arm(**_listed(content["control"])),
        canary=Arm(**_listed(content["canary"])),
        share=evidence.share,
        paired=None if evidence.paired is None else Paired(**content["paired"]),
        live=None if evidence.live is None else LiveLabels(**content["live"]),
        requests=None if evidence.requests is None else Requests(**content["requests"]),
    )


def _listed(arm: Mapping[str, Any]) -> dict[str, Any]:
    return {**arm, "scores": list(arm["scores"])}


def _judgement(found: Judged) -> Judgement:
    return Judgement(
        verdict=found.verdict.value,
        sentence=found.sentence,
        checks=[Check(**asdict(check)) for check in found.checks],
    )
