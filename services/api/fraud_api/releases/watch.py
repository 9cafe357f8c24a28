"""Watches the release in traffic: holds its model, stores its counts, and takes it back on evidence.

Every replica does it, so the champion serves everything again however many replicas, and whatever drives the
release, have died.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final, NamedTuple

from config.settings import Replica
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.deployments import Deployment, running_deployment
from fraud_adapters.postgres.session import Cursor, Session
from fraud_api.metrics import Metrics
from fraud_api.model_holder import Serving
from fraud_api.releases.arms import Canary
from fraud_api.releases.counts import Counts, Stage, store_sums
from fraud_api.releases.releases import ACTOR, Releases
from fraud_core.canary.http_release import NO_RELEASE, Phase, phase
from fraud_core.canary.lifecycle import IN_TRAFFIC, JUDGED, Action, Mode

POLL_SECONDS: Final = 1.0
# Without the database nobody can say that the release still runs.
BLIND_SECONDS: Final = 15.0


class _Wanted(NamedTuple):
    """The share of this replica's traffic that a version is to have."""

    share: float
    stage: Stage | None
    decides: bool


class ReleaseWatch:
    """Keeps what follows for this replica from the release that runs.

    Attributes:
        canary: the version that serves a share of this replica's traffic now, None where there is none.
        control: the stage of a release on another replica, in whose counts the champion's rows here are.
        phase: what the gateway and the replica of a release over HTTP do.
        is_known: whether the database has said if a release runs.
        is_needed: whether a release over HTTP is open.

    Args:
        load: verifies and loads a version; raises as `ModelHolder.load`.
    """

    def __init__(
        self,
        releases: Releases,
        session: Session,
        load: Callable[[str], Serving],
        counts: Counts,
        metrics: Metrics,
        *,
        replica: Replica = Replica.MAIN,
    ) -> None:
        self.canary: Canary | None = None
        self.control: Stage | None = None
        self.phase = NO_RELEASE
        self.is_known = False
        self._replica = replica
        self._releases = releases
        self._session = session
        self._load = load
        self._counts = counts
        self._metrics = metrics
        self.is_needed = False
        self._lock = Lock()
        self._seen = monotonic()
        self._problem: str | None = None
        self._log = get_logger(__name__)

    def poll(self) -> None:
        """Follow the release, and end it where its evidence or its age demands it."""
        # Requests call it too, when they have ended a release.
        with self._lock:
            before = self.canary
            self._poll()
            self._show(before)

    def _poll(self) -> None:
        try:
            running = self._exchange()
        except DatabaseUnavailable:
            following = self.canary is not None or self.phase is not NO_RELEASE
            if following and monotonic() - self._seen > BLIND_SECONDS:
                self._follow(None)
                self._log.warning("canary_paused", reason="the database does not answer")
            return
        self._seen = monotonic()
        self.is_needed = running is not None and running.mode is Mode.HTTP
        self._follow(running)
        if running is not None:
            self._end_if_due(running)
        self.is_known = True

    def flush(self) -> None:
        """Store what was counted since the last time; for the end of the process."""
        self._exchange()

    def _exchange(self) -> Deployment | None:
        """Store what this replica has counted; returns the release that runs."""
        sums = self._counts.unstored()

        def work(cursor: Cursor) -> Deployment | None:
            store_sums(cursor, self._counts.replica, sums)
            return running_deployment(cursor, self._releases.name)

        running = self._session.run(work)
        self._counts.mark_stored(sums)
        return running

    def _follow(self, release: Deployment | None) -> None:
        """Do what follows from the release that runs, or from there being none."""
        self.phase = NO_RELEASE if release is None else self._phase(release)
        control, wanted = None, None
        if release is not None and release.mode is Mode.HTTP:
            stage = Stage(release.deployment_id, release.traffic_percent) if self.phase.counted else None
            if self._replica is Replica.RELEASE and self.phase.served:
                wanted = _Wanted(1.0, stage, self.phase.decides)
            else:
                control = stage
        elif release is not None and release.state in IN_TRAFFIC:
            stage = Stage(release.deployment_id, release.traffic_percent)
            wanted = _Wanted(release.traffic_percent / 100, stage, True)
        self.control = control
        self.canary = None if release is None or wanted is None else self._canary(release, wanted)

    def _phase(self, release: Deployment) -> Phase:
        if release.mode is not Mode.HTTP:
            return NO_RELEASE
        age = release.read_at - (release.stage_started_at or release.started_at)
        return phase(release.state, release.traffic_percent, age, self._releases.settling)

    def _canary(self, release: Deployment, wanted: _Wanted) -> Canary | None:
        serving = self._serving(release)
        if serving is None:
            return None
        canary = Canary(
            release.deployment_id, serving, release.salt, wanted.share, wanted.stage, wanted.decides
        )
        return self.canary if self.canary == canary else canary

    def _show(self, before: Canary | None) -> None:
        """Log and measure what is served now, if it is something else than before."""
        canary = self.canary
        percent = round(100 * canary.share) if canary is not None else 0
        self._metrics.canary_percent.set(percent if canary is not None and canary.decides else 0)
        if before == canary:
            return
        if canary is None:
            if before is not None:
                self._log.info("canary_stopped", version=before.serving.version)
        elif before is None or (before.share, before.decides) != (canary.share, canary.decides):
            self._log.info(
                "canary_served", version=canary.serving.version, percent=percent, decides=canary.decides
            )

    def _serving(self, release: Deployment) -> Serving | None:
        """The release's model; None where it cannot be loaded: then it gets no traffic."""
        current = self.canary
        if current is not None and current.deployment_id == release.deployment_id:
            return current.serving
        try:
            return self._load(release.version)
        except (ModelRefused, RegistryFailure, DatabaseUnavailable, OSError) as error:
            if self._problem != str(error):
                self._log.error("canary_not_loaded", version=release.version, detail=str(error))
            self._problem = str(error)
            return None

    def _end_if_due(self, release: Deployment) -> None:
        if release.state in JUDGED:
            judgement = self._releases.judge_early(release)
            if judgement is not None:
                self._releases.end(ACTOR, release.deployment_id, Action.ROLL_BACK, judgement)
                self._follow(None)
                return
        if self._releases.is_abandoned(release):
            reason = "Nobody has driven the release on since its time was over: whatever drives it has died."
            self._releases.end(ACTOR, release.deployment_id, Action.WITHDRAW, reason)
            self._follow(None)
