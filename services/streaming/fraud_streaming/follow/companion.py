"""The background work of a follower: publishes alerts, and updates classes that change as time passes."""

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

LOOK_SECONDS: Final = 1.0  # the API stores alerts without waking this thread
REFRESH_SECONDS: Final = 60.0
REFRESH_ROWS: Final = 10_000  # in one database transaction, whose locks block the storing of records
RETRY_SECONDS: Final = 2.0


class Companion(Thread):
    """A thread with its own connection. It retries passing failures, by which nothing is lost.

    An unexpected error is logged and ends the thread; `/health/live` then fails.
    """

    def __init__(self, installation: Installation, metrics: Metrics) -> None:
        super().__init__(name="companion", daemon=True)
        self._installation = installation
        self._ending = Event()
        self._metrics = metrics
        self._woken = Event()
        self._refresh_at = 0.0

    def wake(self) -> None:
        """Look for alerts now, because a chunk was committed."""
        self._woken.set()

    def end(self) -> None:
        """Publish the waiting alerts, then stop."""
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
        # After a full batch there may be more, which are refreshed at once.
        self._refresh_at = time.monotonic() + (REFRESH_SECONDS if judged < REFRESH_ROWS else 0.0)
