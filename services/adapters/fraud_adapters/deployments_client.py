"""The jobs' client of the routes `/deployments`, by which a model version is released.

Every request can be repeated: the API answers a repetition with the state that the first one led to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypedDict

from fraud_adapters.api_session import ApiRefused, ApiSession, ApiUnavailable, detail
from fraud_core.canary.lifecycle import Mode

ROUTE: Final = "/deployments"
# The API keeps at most so many in one answer; a run's deployment is among the newest.
LISTED: Final = 100
ENDED: Final = frozenset({"promoted", "refused", "rolled_back", "withdrawn", "aborted"})


class DeploymentNotFound(ApiRefused):
    """There is no such deployment."""


class Deployment(TypedDict, total=False):
    """A deployment as the API describes it; the last four only where one deployment was asked for."""

    deployment_id: int
    name: str
    version: str
    previous_version: str | None
    mode: str
    state: str
    traffic_percent: int
    run_id: str | None
    reason: str | None
    started_at: str
    stage_started_at: str | None
    window_ends: str | None
    extensions: int
    ended_at: str | None
    findings: dict[str, Any] | None
    events: list[dict[str, Any]]
    evidence: dict[str, Any] | None
    judgement: dict[str, Any] | None


class Evaluation(TypedDict, total=False):
    """What the API finds of the stage so far; `next` is wait, advance, roll_back or withdraw."""

    verdict: str | None
    sentence: str | None
    next: str
    window_ends: str | None
    extensions: int
    state: str


class DeploymentsClient:
    """Opens, drives and ends deployments; all methods raise as `ApiSession.authorised`, or ApiRefused."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session

    def open(self, version: str | None, run_id: str | None, mode: Mode = Mode.CANARY) -> Deployment:
        """Open a deployment of a version, or of the challenger; that of the same run is found again."""
        return self._deployment(self._post(ROUTE, {"version": version, "run_id": run_id, "mode": mode}))

    def latest(self, limit: int = LISTED) -> list[Deployment]:
        """The newest deployments, the latest first."""
        answer = self._request("GET", f"{ROUTE}?limit={limit}")
        try:
            return [self._deployment(one) for one in answer["deployments"]]
        except (KeyError, TypeError):
            raise self._unexpected(ROUTE) from None

    def get(self, deployment_id: int) -> Deployment:
        """A deployment with its events and, in traffic, its evidence and judgement."""
        return self._deployment(self._request("GET", f"{ROUTE}/{deployment_id}"))

    def report_validation(
        self,
        deployment_id: int,
        *,
        passed: bool,
        reason: str,
        findings: Mapping[str, Any],
        paired: Mapping[str, int] | None,
    ) -> Deployment:
        """Say whether the version may have traffic; `paired` is what both models said of labelled history."""
        document = {"passed": passed, "reason": reason, "findings": findings, "paired": paired}
        return self._deployment(self._post(f"{ROUTE}/{deployment_id}/validation", document))

    def shadow(self, deployment_id: int, findings: Mapping[str, Any]) -> Deployment:
        """Let a version over HTTP score all requests in parallel; `findings` are of its endpoints' tests."""
        return self._deployment(self._post(f"{ROUTE}/{deployment_id}/shadow", {"findings": findings}))

    def set_traffic(self, deployment_id: int, percent: int) -> Deployment:
        """Give the version a share of the traffic, which may only grow."""
        return self._deployment(self._post(f"{ROUTE}/{deployment_id}/traffic", {"percent": percent}))

    def evaluate(self, deployment_id: int) -> Evaluation:
        """Judge the stage so far; the API acts at once on clear evidence against the version."""
        path = f"{ROUTE}/{deployment_id}/evaluate"
        answer = self._post(path, {})
        if not isinstance(answer, dict) or "next" not in answer:
            raise self._unexpected(path)
        return Evaluation(**answer)  # type: ignore[typeddict-item]

    def promote(self, deployment_id: int, *, force: bool = False, reason: str | None = None) -> Deployment:
        """Make the version champion; without `force` only as the latest verdict says."""
        document = {"force": force, "reason": reason} if force else {}
        return self._deployment(self._post(f"{ROUTE}/{deployment_id}/promote", document))

    def roll_back(self, deployment_id: int, reason: str, *, withdrawn: bool) -> Deployment:
        """Take the version back; `withdrawn`: without evidence against it."""
        document = {"reason": reason, "withdrawn": withdrawn}
        return self._deployment(self._post(f"{ROUTE}/{deployment_id}/rollback", document))

    def abort(self, deployment_id: int, reason: str) -> Deployment:
        """Stop a deployment because a person says so."""
        return self._deployment(self._post(f"{ROUTE}/{deployment_id}/abort", {"reason": reason}))

    def _post(self, path: str, document: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        return self._request("POST", path, body=json.dumps(document).encode(), headers=headers)

    def _request(self, method: str, path: str, **content: Any) -> Any:
        status, body = self._session.authorised(method, path, **content)
        if status == 404:
            raise DeploymentNotFound(f"The API knows no such deployment: {detail(status, body)}")
        if not 200 <= status < 300:
            raise ApiRefused(f"The API refuses {method} {path.partition('?')[0]}: {detail(status, body)}")
        try:
            return json.loads(body)
        except ValueError:
            raise self._unexpected(path) from None

    def _deployment(self, answer: Any) -> Deployment:
        if not isinstance(answer, dict) or not {"deployment_id", "state", "version"} <= answer.keys():
            raise self._unexpected(ROUTE)
        return Deployment(**answer)  # type: ignore[typeddict-item]

    def _unexpected(self, path: str) -> ApiUnavailable:
        return ApiUnavailable(
            f"{self._session.url}{path} answered something else: is API_URL the scoring API?"
        )
