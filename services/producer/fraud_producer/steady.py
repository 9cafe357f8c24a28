"""`generate --every`: periodic runs until stopped, despite failures of Kafka and Postgres."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final, Protocol

from config.job_results.producer import GenerateResult, SteadyResult
from fraud_adapters.job import EXPECTED, failure_of
from fraud_adapters.job.logs import get_logger

MAX_PAUSE_S: Final = 60.0

RunOnce = Callable[[str], GenerateResult]


class Stop(Protocol):
    """Signals the end; implemented by `threading.Event`."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


def generate(
    once: RunOnce, every: float, stop: Stop, clock: Callable[[], float] = time.monotonic
) -> SteadyResult:
    """Call `once` with a new run id every `every` seconds; delayed runs are not made up for.

    A failed run is retried under the same id, so that the stored truth gets its transactions. Each
    consecutive failure doubles the pause, up to a minute.
    """
    totals, consecutive_failures = SteadyResult(runs=0, failures=0, transactions=0, labels_sent=0), 0
    run_id, due = str(uuid.uuid4()), clock()
    while not stop.is_set():
        try:
            result = once(run_id)
        except EXPECTED as error:
            totals["failures"] += 1
            consecutive_failures += 1
            pause = min(every * 2 ** (consecutive_failures - 1), max(every, MAX_PAUSE_S))
            get_logger(__name__).warning("run_failed", reason=str(failure_of(error)), again_in_seconds=pause)
            due = clock() + pause
        else:
            consecutive_failures = 0
            totals["runs"] += 1
            totals["transactions"] += result["transactions"]
            totals["labels_sent"] += result["labels_sent"]
            run_id, due = str(uuid.uuid4()), max(due + every, clock())
        stop.wait(max(0.0, due - clock()))
    return totals
