"""Moves releases from state to state: what the routes do, and what the watch does by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

from config.constants import ALIAS_CHALLENGER, ALIAS_CHAMPION
from config.release import Release as ReleaseParameters
from fraud_adapters.models.aliases import AliasMoved, promote
from fraud_adapters.models.recorded import VersionRefused
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.postgres import audit, deployments
from fraud_adapters.postgres.deployments import Deployment, Event
from fraud_adapters.postgres.release_counts import CANARY, CONTROL, read_counts, read_labels
from fraud_adapters.postgres.session import Cursor, Session
from fraud_api.model_holder import ModelHolder, ModelSource
from fraud_api.problems import Problem, unavailable
from fraud_api.releases.request_metrics import RequestMetrics
from fraud_core.canary.evidence import Arm, Evidence, LiveLabels, Paired, Requests
from fraud_core.canary.judgement import Judgement, Verdict, judge
from fraud_core.canary.lifecycle import (
    IN_TRAFFIC,
    JUDGED,
    RUNNING,
    Action,
    IllegalAction,
    Mode,
    Stage,
    State,
    after,
)

ACTOR: Final = "api"  # what the watch does by itself
Next = Literal["wait", "advance", "roll_back", "withdraw"]
_REGISTRY_SILENT: Final = "The model registry does not respond correctly."
_FORCED: Final = "A person promoted it whatever the verdict."


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the evidence says of a stage, and what follows."""

    deployment: Deployment
    judgement: Judgement | None
    next: Next
    sentence: str


class Releases:
    """The releases of one model. Every method raises `Problem`, and blocks: call them from a thread."""

    def __init__(
        self,
        name: str,
        session: Session,
        holder: ModelHolder,
        registry: ModelSource,
        parameters: ReleaseParameters,
        *,
        requests: RequestMetrics,
    ) -> None:
        self.name = name
        self._session = session
        self._holder = holder
        self._registry = registry
        self._parameters = parameters
        self._requests = requests

    @property
    def settling(self) -> timedelta:
        """How long the change of a release over HTTP takes to reach gateway and replicas."""
        return self._parameters.http.settling

    # Opening and reading.

    def open(
        self, actor: str, version: str | None, run_id: str | None, mode: Mode = Mode.CANARY
    ) -> tuple[Deployment, bool]:
        """Open a release of a version, or of the challenger; returns it, and whether it is new."""
        if (known := self._of_run(run_id)) is not None:
            return known, False
        aliases = self._aliases()
        chosen, champion = version or aliases.get(ALIAS_CHALLENGER), aliases.get(ALIAS_CHAMPION)
        if chosen is None:
            raise Problem(422, f"{self.name} has no {ALIAS_CHALLENGER}: name the version to release.")
        if champion is None:
            raise Problem(
                422, f"{self.name} has no {ALIAS_CHAMPION} to compare with: promote a version first."
            )
        if chosen == champion:
            raise Problem(422, f"Version {chosen} is the {ALIAS_CHAMPION} already.")
        self._require_servable(chosen)

        def work(cursor: Cursor) -> int | None:
            opened = deployments.open_deployment(
                cursor,
                name=self.name,
                version=chosen,
                previous=champion,
                mode=mode,
                salt=uuid4().hex,
                run_id=run_id,
            )
            if opened is not None:
                details = {"version": chosen, "champion": champion, "mode": mode}
                self._note(cursor, actor, opened, "opened", details)
            return opened

        opened = self._session.run(work)
        if opened is None:
            if (known := self._of_run(run_id)) is not None:
                return known, False
            raise Problem(409, "Another release is running: it must end first.")
        return self.get(opened), True

    def get(self, deployment_id: int) -> Deployment:
        found = self._session.run(
            lambda cursor: deployments.read_deployment(cursor, self.name, deployment_id)
        )
        if found is None:
            raise Problem(404, f"There is no release {deployment_id} of {self.name}.")
        return found

    def latest(self, limit: int) -> list[Deployment]:
        return self._session.run(lambda cursor: deployments.latest_deployments(cursor, self.name, limit))

    def events(self, deployment_id: int) -> list[Event]:
        return self._session.run(lambda cursor: deployments.events_of(cursor, deployment_id))

    def evidence(self, release: Deployment, *, labels: bool = True) -> Evidence:
        """What the current stage has shown so far.

        Args:
            labels: otherwise what is known of the truth, and what is measured elsewhere, is left out.
        """

        def work(cursor: Cursor) -> tuple[dict[str, Arm], LiveLabels | None]:
            counts = read_counts(cursor, release.deployment_id, release.traffic_percent)
            # A shadow decides nothing, so no label is about what it decided.
            wanted = labels and release.state in IN_TRAFFIC
            return counts, read_labels(cursor, release.deployment_id) if wanted else None

        counts, live = self._session.run(work)
        return Evidence(
            control=counts[CONTROL],
            canary=counts[CANARY],
            # Both arms of a shadow score all of the traffic.
            share=0.5 if release.state == State.SHADOW else release.traffic_percent / 100,
            paired=None if release.paired is None else Paired(**release.paired),
            live=live,
            requests=self._answered(release) if labels and release.mode is Mode.HTTP else None,
        )

    def _answered(self, release: Deployment) -> Requests:
        """What clients got from each replica since the stage began."""
        began = release.stage_started_at or release.started_at
        stages = [event.details for event in self.events(release.deployment_id) if event.kind in JUDGED]
        before = Requests.from_mapping((stages[-1] or {}).get("requests") or {}) if stages else Requests()
        return self._requests.since(before, (release.read_at - began).total_seconds())

    def judgement(self, evidence: Evidence) -> Judgement:
        return judge(evidence, self._parameters.judgement)

    def window_ends(self, release: Deployment) -> datetime | None:
        """When the current stage's window ends; None outside traffic."""
        stage = self._stage(release)
        return stage.ends_at if stage else None

    # Moving.

    def validated(  # noqa: PLR0917
        self,
        actor: str,
        deployment_id: int,
        passed: bool,
        reason: str,
        findings: Mapping[str, Any],
        paired: Paired | None,
    ) -> Deployment:
        """Store the result of the validation."""
        action = Action.VALIDATE if passed else Action.REFUSE
        details: dict[str, Any] = {"findings": dict(findings)}
        if paired is not None:
            details["paired"] = asdict(paired)
        return self._move(actor, deployment_id, action, reason, details=details, store=details)

    def traffic(self, actor: str, deployment_id: int, percent: int) -> Deployment:
        """Give the release a share of the traffic: the first, or a larger one."""
        release = self.get(deployment_id)
        if release.state in IN_TRAFFIC and percent < release.traffic_percent:
            raise Problem(409, f"The release has {release.traffic_percent} % already; a share only grows.")
        if release.state in IN_TRAFFIC and percent == release.traffic_percent:
            return release
        if release.state == State.WIDENED:
            raise Problem(409, f"The release has its last share already: {release.traffic_percent} %.")
        action = Action.WIDEN if release.state == State.CANARY else Action.START
        self._after(release, action)
        if release.state in JUDGED:
            self._require_passed(release)
        details = {"percent": percent, **self._measured(release)}
        return self._move(actor, deployment_id, action, None, percent=percent, details=details)

    def shadow(self, actor: str, deployment_id: int, findings: Mapping[str, Any]) -> Deployment:
        """Let the release score the traffic in parallel, and decide nothing."""
        release = self.get(deployment_id)
        details = {"findings": dict(findings), **self._measured(release)}
        return self._move(actor, deployment_id, Action.SHADOW, None, details=details)

    def _measured(self, release: Deployment) -> dict[str, Any]:
        """What its replicas have answered before the stage that begins."""
        return {"requests": self._requests.totals().to_mapping()} if release.mode is Mode.HTTP else {}

    def evaluate(self, actor: str, deployment_id: int) -> Evaluation:
        """Judge the current stage, act on the verdict where it must not wait, and say what follows."""
        release = self.get(deployment_id)
        if release.state not in JUDGED:
            return self._evaluation_outside_traffic(release)
        evidence, over = self.evidence(release), self._is_over(release)
        found = self.judgement(evidence)
        following = self._next(release, found, over=over)
        details = {"verdict": found.verdict, "next": following, **_numbers(evidence, found)}
        self._session.run(lambda cursor: deployments.record_event(cursor, deployment_id, "judged", details))
        if following == "roll_back":
            release = self.end(actor, deployment_id, Action.ROLL_BACK, found.sentence)
        elif over and following == "wait":
            release = self._extend(actor, release, found)
        return Evaluation(release, found, following, found.sentence)

    def promote(self, actor: str, deployment_id: int, *, force: bool, reason: str | None) -> Deployment:
        """Make the version champion; the verdict must be to promote, unless a person forces it."""
        release = self.get(deployment_id)
        if release.state == State.PROMOTED:
            return release
        self._after(release, Action.PROMOTE)
        verdict = _FORCED if force else self._require_passed(release)
        reason = reason or verdict
        details = {"deployment": deployment_id, "reason": reason, "forced": force}
        try:
            promote(self._session, self._registry, actor, self.name, release.version, details)
        except AliasMoved as error:
            raise unavailable(str(error)) from None
        except RegistryFailure:
            raise unavailable(_REGISTRY_SILENT) from None
        moved = self._move(actor, deployment_id, Action.PROMOTE, reason, details={"forced": force})
        self._holder.reload()
        return moved

    def end(self, actor: str, deployment_id: int, action: Action, reason: str) -> Deployment:
        """Take the release back; what has ended already stays as it is."""
        return self._move(actor, deployment_id, action, reason)

    # What the watch asks.

    def judge_early(self, release: Deployment) -> str | None:
        """Why a stage must end before its window is over; None if it need not."""
        found = self.judgement(self.evidence(release, labels=False))
        return found.sentence if found.verdict is Verdict.ROLL_BACK else None

    def is_abandoned(self, release: Deployment) -> bool:
        """Whether its time is over by so much that nobody can be driving it."""
        grace = self._parameters.abandoned_after
        stage = self._stage(release)
        since = stage.longest(self._parameters.max_extensions) if stage else release.started_at
        limit = grace if stage else self._parameters.validation_limit + grace
        return release.read_at - since > limit

    def _next(self, release: Deployment, found: Judgement, *, over: bool) -> Next:
        if found.verdict is Verdict.ROLL_BACK:
            return "roll_back"
        if not over:
            return "wait"
        if found.verdict is Verdict.PROMOTE:
            return "advance"
        return "wait" if release.extensions < self._parameters.max_extensions else "withdraw"

    def _evaluation_outside_traffic(self, release: Deployment) -> Evaluation:
        if release.state in RUNNING:
            raise Problem(409, f"The release is {release.state}: it has no traffic to judge.")
        following: Next = "withdraw" if release.state == State.WITHDRAWN else "roll_back"
        if release.state == State.PROMOTED:
            following = "advance"
        return Evaluation(release, None, following, release.reason or f"The release is {release.state}.")

    def _extend(self, actor: str, release: Deployment, found: Judgement) -> Deployment:
        def work(cursor: Cursor) -> None:
            if deployments.extend(cursor, release):
                self._note(cursor, actor, release.deployment_id, "extended", {"reason": found.sentence})

        self._session.run(work)
        return self.get(release.deployment_id)

    def _require_passed(self, release: Deployment) -> str:
        """The sentence of the stage's last evaluation; raises 409 unless it was to advance.

        It is not judged again: between the evaluation and the step that follows from it a few more
        transactions would now and then turn the verdict. What speaks against the release ends it anyway.
        """
        judged = [event for event in self.events(release.deployment_id) if event.kind == "judged"]
        began = release.stage_started_at
        if not judged or began is None or judged[-1].occurred_at < began:
            raise Problem(409, "The stage was not evaluated yet.")
        last = judged[-1].details
        if last["next"] != "advance":
            raise Problem(409, f"The last verdict is not to go on: {last['sentence']}")
        return str(last["sentence"])

    def _require_servable(self, version: str) -> None:
        try:
            self._holder.check(version)
        except VersionRefused as refused:
            raise Problem(422, f"The version must not serve: {refused}") from None
        except RegistryFailure:
            raise unavailable(_REGISTRY_SILENT) from None

    def _move(
        self,
        actor: str,
        deployment_id: int,
        action: Action,
        reason: str | None,
        *,
        percent: int | None = None,
        details: Mapping[str, Any] | None = None,
        store: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """Do what is possible in the state; a repetition changes nothing."""
        release = self.get(deployment_id)
        state = self._after(release, action)
        if state == release.state:
            return release

        def work(cursor: Cursor) -> bool:
            moved = deployments.move(cursor, release, state, percent=percent, reason=reason, **(store or {}))
            if moved:
                said = {} if reason is None else {"reason": reason}
                self._note(cursor, actor, deployment_id, state, {**(details or {}), **said})
            return moved

        if not self._session.run(work):
            # Somebody else has moved it since it was read.
            return self._move(
                actor, deployment_id, action, reason, percent=percent, details=details, store=store
            )
        return self.get(deployment_id)

    def _after(self, release: Deployment, action: Action) -> State:
        try:
            return after(release.state, action, release.mode)
        except IllegalAction as error:
            raise Problem(409, str(error)) from None

    def _note(
        self, cursor: Cursor, actor: str, deployment_id: int, kind: str, details: Mapping[str, Any]
    ) -> None:
        """Add an event, and an entry of the audit log, in the cursor's transaction."""
        deployments.record_event(cursor, deployment_id, kind, {"actor": actor, **details})
        entry = {"deployment": deployment_id, "reason": details.get("reason")}
        entry |= {name: details[name] for name in ("percent", "version", "forced") if name in details}
        audit.append(cursor, actor, f"deployment_{kind}", self.name, entry)

    def _stage(self, release: Deployment) -> Stage | None:
        if release.state not in JUDGED or release.stage_started_at is None:
            return None
        window = self._parameters.http.window if release.mode is Mode.HTTP else self._parameters.window
        return Stage(release.stage_started_at, window, release.extensions)

    def _is_over(self, release: Deployment) -> bool:
        stage = self._stage(release)
        return stage is not None and release.read_at >= stage.ends_at

    def _aliases(self) -> dict[str, str]:
        try:
            return self._registry.aliases(self.name)
        except RegistryFailure:
            raise unavailable(_REGISTRY_SILENT) from None

    def _of_run(self, run_id: str | None) -> Deployment | None:
        """The release that this run has opened already."""
        if run_id is None:
            return None
        return self._session.run(lambda cursor: deployments.deployment_of_run(cursor, self.name, run_id))


def _numbers(evidence: Evidence, found: Judgement) -> dict[str, Any]:
    return {
        "sentence": found.sentence,
        "evidence": asdict(evidence),
        "checks": [asdict(check) for check in found.checks],
    }
