"""A shadow: a version that scores what the others decide, and decides nothing.

It works off the request path, on its own thread and connection. It is the first to give way: what does not
fit into its queue is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import perf_counter
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
GROUP_ROWS: Final = 2_000  # scored and stored at once
# What arrives in this time is scored and stored together: a commit for each transaction would take the disk
# and the interpreter from those that decide.
GATHER_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 0.5
STOP_SECONDS: Final = 5.0


_Offered = tuple[Batch, Sequence[Arrival]]


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
        self._waiting: SimpleQueue[_Offered] = SimpleQueue()
        self._rows = 0  # that wait
        self._lock = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._loop, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def offer(self, batch: Batch, arrivals: Sequence[Arrival]) -> None:
        """Let the shadow score a batch, unless there is none or it is behind. Never blocks, never raises."""
        if self._serving() is None or not len(batch):
            return
        with self._lock:
            room = self._rows + len(batch) <= MAX_ROWS
            if room:
                self._rows += len(batch)
        if room:
            self._waiting.put((batch, arrivals))
        else:
            self._metrics.shadow.labels("shed").inc(len(batch))

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                first = self._waiting.get(timeout=IDLE_SECONDS)
            except Empty:
                continue
            self._stop.wait(GATHER_SECONDS)
            for group in _together(self._gathered(first)):
                self._score(*group)

    def _gathered(self, first: _Offered) -> list[_Offered]:
        """What waits by now, as much as is scored at once."""
        found, rows = [first], len(first[0])
        while rows < GROUP_ROWS:
            try:
                offered = self._waiting.get_nowait()
            except Empty:
                break
            found.append(offered)
            rows += len(offered[0])
        with self._lock:
            self._rows -= rows
        return found

    def _score(self, batch: Batch, arrivals: Sequence[Arrival]) -> None:
        serving = self._serving()
        if serving is None:
            return
        try:
            started = perf_counter()
            scored = score_batch(self._contract, serving, batch, arrivals).as_role("shadow")
            # Of its own work alone: how long a transaction waited here says nothing about the model.
            each = (perf_counter() - started) * 1000 / len(batch)
            predictions = scored.predictions.stamped(each, scored.predictions.traceparents)
            self._session.run(lambda cursor: store_shadow(cursor, batch.ids, predictions))
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


def _together(offered: Sequence[_Offered]) -> list[_Offered]:
    """The batches as few as possible: those with the same columns as one."""
    groups: dict[frozenset[str], list[_Offered]] = {}
    for batch, arrivals in offered:
        groups.setdefault(frozenset(batch.columns), []).append((batch, arrivals))
    return [
        (Batch.concat([batch for batch, _ in group]), [one for _, arrivals in group for one in arrivals])
        for group in groups.values()
    ]
