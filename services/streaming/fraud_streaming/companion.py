"""What a follower does beside its topics: alerts, and classes that change by the passing of time."""

from __future__ import annotations

from threading import Event, Thread
from typing import Final

from fraud_adapters.logs import get_logger
from fraud_streaming.alerts import AlertRelay
from fraud_streaming.failures import PASSING, sentence
from fraud_streaming.metrics import Metrics
from fraud_streaming.site import Site

LOOK_SECONDS: Final = 1.0  # the API's alerts come without a commit of ours
RETRY_SECONDS: Final = 2.0


class Companion(Thread):
    """A thread with a connection of its own; what fails is tried again, and nothing is lost by it."""

    def __init__(self, site: Site, stop: Event, metrics: Metrics) -> None:
        super().__init__(name="companion", daemon=True)
        self._site = site
        self._stop_all = stop
        self._metrics = metrics
        self._woken = Event()

    def wake(self) -> None:
        """Something was committed: there may be alerts."""
        self._woken.set()

    def run(self) -> None:
        while not self._stop_all.is_set():
            try:
                self._work()
            except PASSING as error:
                get_logger(__name__).warning("alerts_wait", error=sentence(error))
                self._stop_all.wait(RETRY_SECONDS)

    def _work(self) -> None:
        url, kafka = self._site.database.url, self._site.kafka
        with AlertRelay(url, kafka.bootstrap_servers, kafka.alerts_topic, self._site.contract) as relay:
            while not self._stop_all.is_set():
                self._woken.wait(LOOK_SECONDS)
                self._woken.clear()
                self._metrics.alerts.inc(relay.publish())
            relay.publish()
