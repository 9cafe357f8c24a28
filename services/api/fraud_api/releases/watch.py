"""Watches the release in traffic: holds its model, stores its counts, and takes it back on evidence.

Every replica does it, so the champion serves everything again however many replicas, and whatever drives the
release, have died.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final

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
from fraud_core.canary.lifecycle import IN_TRAFFIC, Action

POLL_SECONDS: Final = 1.0
# Without the database nobody can say that the release still runs.
BLIND_SECONDS: Final = 15.0


class ReleaseWatch:
    """`canary` is the version that serves a share of the traffic now, None where there is none.

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
    ) -> None:
        self.canary: Canary | None = None
        self.is_known = False  # whether the database has said if a release runs
        self._releases = releases
        self._session = session
        self._load = load
        self._counts = counts
        self._metrics = metrics
        self._lock = Lock()
        self._seen = monotonic()
        self._problem: str | None = None
        self._log = get_logger(__name__)

    def poll(self) -> None:
        """Follow the release, and end it where its evidence or its age demands it."""
        # Requests call it too, when they have ended a release.
        with self._lock:
            self._poll()

    def _poll(self) -> None:
        try:
            running = self._exchange()
        except DatabaseUnavailable:
            if self.canary is not None and monotonic() - self._seen > BLIND_SECONDS:
                self._follow(None)
                self._log.warning("canary_paused", reason="the database does not answer")
            return
        self._seen = monotonic()
        self._follow(running if running is not None and running.state in IN_TRAFFIC else None)
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
        if release is None:
            if self.canary is not None:
                self._log.info("canary_stopped", version=self.canary.serving.version)
            self.canary = None
            self._metrics.canary_percent.set(0)
            return
        stage = Stage(release.deployment_id, release.traffic_percent)
        if self.canary is not None and self.canary.stage == stage:
            return
        serving = self._serving(release)
        self.canary = None if serving is None else Canary(stage, serving, release.salt)
        self._metrics.canary_percent.set(0 if serving is None else stage.percent)
        if serving is not None:
            self._log.info("canary_served", version=release.version, percent=stage.percent)

    def _serving(self, release: Deployment) -> Serving | None:
        """The release's model; None where it cannot be loaded: then it gets no traffic."""
        current = self.canary
        if current is not None and current.stage.deployment_id == release.deployment_id:
            return current.serving
        try:
            return self._load(release.version)
        except (ModelRefused, RegistryFailure, DatabaseUnavailable, OSError) as error:
            if self._problem != str(error):
                self._log.error("canary_not_loaded", version=release.version, detail=str(error))
            self._problem = str(error)
            return None

    def _end_if_due(self, release: Deployment) -> None:
        if release.state in IN_TRAFFIC:
            judgement = self._releases.judge_early(release)
            if judgement is not None:
                self._releases.end(ACTOR, release.deployment_id, Action.ROLL_BACK, judgement)
                self._follow(None)
                return
        if self._releases.is_abandoned(release):
            reason = "Nobody has driven the release on since its time was over: whatever drives it has died."
            self._releases.end(ACTOR, release.deployment_id, Action.WITHDRAW, reason)
            self._follow(None)
