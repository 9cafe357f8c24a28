"""A shadow: a version that scores what the others decide, and decides nothing.

It works off the request path, on its own thread and connection. It is the first to give way: what does not
fit into its queue is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.session import Session
from fraud_adapters.postgres.shadow_predictions import store_shadow
from fraud_api.arrival import Arrival
from fraud_api.metrics import Metrics
from fraud_api.model_holder import Serving
from fraud_api.scoring import score_batch
from fraud_core.batch import Batch
from fraud_core.contract import Contract

MAX_ROWS: Final = 10_000  # that wait
IDLE_SECONDS: Final = 0.5
STOP_SECONDS: Final = 5.0


class Shadow:
    """Scores batches with `serving()`, the shadow now, and stores what it predicts."""

    def __init__(
        self,
        contract: Contract,
        serving: Callable[[], Serving | None],
        session: Session,
        metrics: Metrics,
    ) -> None:
        self._contract = contract
        self._serving = serving
        self._session = session
        self._metrics = metrics
        self._waiting: Queue[tuple[Batch, list[Arrival]]] = Queue(maxsize=MAX_ROWS)
        self._rows = 0  # that wait, roughly: it is a bound of memory, not a count
        self._stop = Event()
        self._thread = Thread(target=self._loop, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def offer(self, batch: Batch, arrivals: list[Arrival]) -> None:
        """Let the shadow score a batch, unless there is none or it is behind. Never blocks, never raises."""
        if self._serving() is None or not len(batch):
            return
        if self._rows + len(batch) > MAX_ROWS:
            self._metrics.shadow.labels("shed").inc(len(batch))
            return
        try:
            self._waiting.put_nowait((batch, arrivals))
        except Full:
            self._metrics.shadow.labels("shed").inc(len(batch))
            return
        self._rows += len(batch)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                batch, arrivals = self._waiting.get(timeout=IDLE_SECONDS)
            except Empty:
                self._rows = 0
                continue
            self._rows -= len(batch)
            self._score(batch, arrivals)

    def _score(self, batch: Batch, arrivals: list[Arrival]) -> None:
        serving = self._serving()
        if serving is None:
            return
        try:
            scored = score_batch(self._contract, serving, batch, arrivals).as_role("shadow")
            self._session.run(lambda cursor: store_shadow(cursor, batch.ids, scored.predictions))
        except DatabaseUnavailable:
            self._metrics.shadow.labels("failed").inc(len(batch))
        except Exception as error:
            # Whatever a shadow does, the decisions of others are not its own.
            self._metrics.shadow.labels("failed").inc(len(batch))
            get_logger(__name__).warning(
                "shadow_failed", version=serving.version, rows=len(batch), reason=type(error).__name__
            )
        else:
            self._metrics.shadow.labels("scored").inc(len(batch))
