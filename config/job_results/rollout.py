"""The results of the verbs of `fraud_rollout`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class FindingResult(TypedDict):
    """A check before any traffic."""

    name: str
    outcome: Literal[
        "passed", "failed", "insufficient"
    ]  # insufficient: could not be judged, and refuses nothing
    sentence: str
    value: NotRequired[float | None]
    low: NotRequired[float | None]
    high: NotRequired[float | None]
    bound: NotRequired[float | None]


class ReleaseResult(TypedDict):
    """Where a deployment stands; every verb's result has these keys."""

    status: Literal["done"]
    deployment_id: int
    version: str
    previous_version: str | None  # the champion when the deployment was opened
    state: str
    traffic_percent: int
    text: str  # what people are told


class ValidationResult(ReleaseResult):
    """`validate`: whether the version may have traffic, and what was found."""

    dag: str
    run_id: str
    passed: bool
    reason: str  # one sentence
    findings: list[FindingResult]
    paired: dict[str, int] | None  # labelled transactions by which model flags them
    seconds: float


class EndpointsResult(ReleaseResult):
    """`test-endpoints`: what clients rely on, a finding each."""

    findings: list[FindingResult]


class EvaluationResult(ReleaseResult):
    """`evaluate`: the verdict on the stage so far, and what follows."""

    verdict: str | None  # None where the deployment has ended
    sentence: str
    next: Literal["wait", "advance", "roll_back", "withdraw"]
    window_ends: str | None
    extensions: int


class EndResult(ReleaseResult):
    """`promote`, `rollback`, `abort`: how a deployment ended."""

    reason: str | None
    title: str  # of an alert
    severity: Literal["none", "medium", "high"]
    report: str | None  # key of the HTML report in the bucket of runs
    problems: list[str]  # what could not be written, a sentence each


class ListedRelease(TypedDict):
    """One line of `status`."""

    deployment_id: int
    version: str
    state: str
    traffic_percent: int
    run_id: str | None
    started_at: str
    ended_at: str | None
    reason: str | None


class StatusResult(TypedDict):
    """`status`: the latest deployments, and the chosen or running one in full lines."""

    status: Literal["done"]
    lines: list[str]
    deployments: list[ListedRelease]
