"""What a follower does beside its topics: alerts, and classes that change by the passing of time."""

from __future__ import annotations

import time
from contextlib import closing
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from fraud_adapters.job import PASSING, failure_of
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres.labels import refresh_classes
from fraud_streaming.follow.alerts import AlertRelay
from fraud_streaming.follow.metrics import Metrics
from fraud_streaming.installation import SERVICE, Installation

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

LOOK_SECONDS: Final = 1.0  # the API's alerts come without a commit of ours
REFRESH_SECONDS: Final = 60.0
REFRESH_ROWS: Final = 10_000  # of one database transaction, whose locks stores wait for
RETRY_SECONDS: Final = 2.0


class Companion(Thread):
    """A thread with a connection of its own; what may pass is tried again, and nothing is lost by it.

    What is unexpected is logged and ends it: the follower is then no longer live.
    """

    def __init__(self, installation: Installation, metrics: Metrics) -> None:
        super().__init__(name="companion", daemon=True)
        self._installation = installation
        self._ending = Event()
        self._metrics = metrics
        self._woken = Event()
        self._refresh_at = 0.0

    def wake(self) -> None:
        """Something was committed: there may be alerts."""
        self._woken.set()

    def end(self) -> None:
        """Publish what there is, then stop."""
        self._ending.set()
        self._woken.set()

    def run(self) -> None:
        try:
            self._work_on()
        except Exception:
            get_logger(__name__).error("companion_failed", exc_info=True)

    def _work_on(self) -> None:
        while not self._ending.is_set():
            try:
                self._work()
            except PASSING as error:
                get_logger(__name__).warning("companion_tries_again", error=str(failure_of(error)))
                self._ending.wait(RETRY_SECONDS)

    def _work(self) -> None:
        kafka = self._installation.kafka
        with (
            closing(self._installation.connect(f"{SERVICE}-companion")) as conn,
            AlertRelay(
                self._installation.connect,
                kafka.bootstrap_servers,
                kafka.alerts_topic,
                self._installation.contract,
            ) as relay,
        ):
            while not self._ending.is_set():
                self._woken.wait(LOOK_SECONDS)
                self._woken.clear()
                self._metrics.alerts.inc(relay.publish())
                if time.monotonic() >= self._refresh_at:
                    self._refresh(conn)
            self._metrics.alerts.inc(relay.publish())

    def _refresh(self, conn: Connection) -> None:
        judged = refresh_classes(conn, REFRESH_ROWS)
        self._metrics.classes.inc(judged)
        # The rest of a full round does not wait a minute.
        self._refresh_at = time.monotonic() + (REFRESH_SECONDS if judged < REFRESH_ROWS else 0.0)
