"""`generate --every`: one run after the other until told to stop, whatever happens to Kafka and Postgres."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final, Protocol

from config.job_results import GenerateResult, SteadyResult
from fraud_adapters.job import EXPECTED, failure_of
from fraud_adapters.job.logs import get_logger

MAX_PAUSE_S: Final = 60.0

Once = Callable[[str], GenerateResult]


class Stop(Protocol):
    """What ends it; `threading.Event` is one."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


def generate(
    once: Once, every: float, stop: Stop, clock: Callable[[], float] = time.monotonic
) -> SteadyResult:
    """Call `once` with a new run id every so many seconds; a run that is late makes the next ones no denser.

    A run that fails is repeated under its own id, so that the truth it has stored gets its transactions; each
    failure in a row doubles the pause before, up to a minute.
    """
    made, in_a_row = SteadyResult(runs=0, failures=0, transactions=0, labels_sent=0), 0
    run_id, due = str(uuid.uuid4()), clock()
    while not stop.is_set():
        try:
            result = once(run_id)
        except EXPECTED as error:
            made["failures"] += 1
            in_a_row += 1
            pause = min(every * 2 ** (in_a_row - 1), max(every, MAX_PAUSE_S))
            get_logger(__name__).warning("run_failed", reason=str(failure_of(error)), again_in_seconds=pause)
            due = clock() + pause
        else:
            in_a_row = 0
            made["runs"] += 1
            made["transactions"] += result["transactions"]
            made["labels_sent"] += result["labels_sent"]
            run_id, due = str(uuid.uuid4()), max(due + every, clock())
        stop.wait(max(0.0, due - clock()))
    return made
