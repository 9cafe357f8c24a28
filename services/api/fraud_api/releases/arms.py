"""Scores a batch by arms: the champion's rows, and those of a canary while a release has traffic.

The canary scores in threads of its own and within a time limit; where it fails or is late, the champion
decides in its place, so a release can neither fail a request nor hold up those that it does not serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres.release_counts import CANARY, CONTROL
from fraud_api.arrival import Arrival
from fraud_api.metrics import Metrics
from fraud_api.model_holder import Serving
from fraud_api.releases.counts import Counts, Stage
from fraud_api.releases.shadow import Shadow
from fraud_api.scoring import Scored, ScoredPart, score_batch, score_few
from fraud_core.batch import Batch
from fraud_core.canary.assignment import in_canary
from fraud_core.contract import Contract

SHADOW_ROLE: Final = "shadow"
THREADS: Final = 2  # of canaries; a canary that hangs holds up no other work
Scoring = Callable[[Contract, Serving, Batch, Sequence[Arrival]], Scored]


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that serves a share of the cards here, drawn by the salt.

    Attributes:
        stage: in whose counts its rows are; None where nothing is counted.
        decides: otherwise its answers are those of a shadow, and are not stored.
    """

    deployment_id: int
    serving: Serving
    salt: str
    share: float
    stage: Stage | None
    decides: bool = True

    @property
    def role(self) -> str:
        return "canary" if self.decides else SHADOW_ROLE


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that one arm serves, as a batch.

    Attributes:
        canary: None for the champion's rows.
        stage: of the release in traffic, in whose counts the rows are.
    """

    rows: Sequence[int]
    batch: Batch
    canary: Canary | None = None
    stage: Stage | None = None


class Arms:
    """Splits batches between champion and canary, and counts what each arm did.

    Args:
        canary: the canary that serves here now, if there is one.
        control: where there is none, the stage in whose counts the champion's rows are.
        champion: the champion now.
        limit_seconds: after so long the champion decides in the canary's place.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        champion: Callable[[], Serving],
        canary: Callable[[], Canary | None],
        control: Callable[[], Stage | None],
        shadow: Shadow,
        counts: Counts,
        metrics: Metrics,
        limit_seconds: float,
    ) -> None:
        card = contract.with_role("card")
        self._contract = contract
        self._card = card.name if card else None
        self._champion = champion
        self._canary = canary
        self._control = control
        self._shadow = shadow
        self._counts = counts
        self._failures = metrics.canary_failures
        self._limit = limit_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="canary")
        self._log = get_logger(__name__)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def split(self, batch: Batch) -> list[Part]:
        """One part, or the champion's and the canary's: a card is always in the same one of a release."""
        canary, everything = self._canary(), range(len(batch))
        if canary is None or not len(batch):
            return [Part(everything, batch, None, self._control())]
        stage = canary.stage
        if canary.share >= 1:
            return [Part(everything, batch, canary, stage)]
        chosen = in_canary(self._keys(batch), canary.salt, canary.share)
        if chosen.all():
            return [Part(everything, batch, canary, stage)]
        if not chosen.any():
            return [Part(everything, batch, None, stage)]
        rest, rows = np.flatnonzero(~chosen).tolist(), np.flatnonzero(chosen).tolist()
        return [
            Part(rest, batch.take(rest), None, stage),
            Part(rows, batch.take(rows), canary, stage),
        ]

    async def score_few(self, part: Part, arrivals: Sequence[Arrival]) -> Scored:
        """Score the part's rows, each of its own request; those of the champion on the event loop."""
        self._shadow.offer(part.batch, arrivals)
        canary = part.canary
        if canary is None:
            return self._by_champion(part, arrivals, score_few)
        started = perf_counter()
        task = self._threads.submit(score_few, self._contract, canary.serving, part.batch, arrivals)
        try:
            async with asyncio.timeout(self._limit):
                scored = await asyncio.wrap_future(task)
        except Exception as error:
            return self._instead(part, canary, arrivals, score_few, started, error)
        return self._by_canary(canary, scored, started)

    def score_many(self, batch: Batch, arrival: Arrival) -> list[ScoredPart]:
        """All rows of one request; blocks, so call it from a thread."""
        self._shadow.offer(batch, [arrival] * len(batch))
        return [
            ScoredPart(part.rows, self._score_many(part, [arrival] * len(part.batch)))
            for part in self.split(batch)
        ]

    def _score_many(self, part: Part, arrivals: Sequence[Arrival]) -> Scored:
        canary = part.canary
        if canary is None:
            return self._by_champion(part, arrivals, score_batch)
        started = perf_counter()
        task: Future[Scored] = self._threads.submit(
            score_batch, self._contract, canary.serving, part.batch, arrivals
        )
        try:
            scored = task.result(self._limit)
        except Exception as error:
            task.cancel()
            return self._instead(part, canary, arrivals, score_batch, started, error)
        return self._by_canary(canary, scored, started)

    def _by_champion(self, part: Part, arrivals: Sequence[Arrival], score: Scoring) -> Scored:
        started = perf_counter()
        scored = score(self._contract, self._champion(), part.batch, arrivals)
        if part.stage is not None and len(part.batch):
            self._counts.scored(part.stage, CONTROL, scored.predictions, perf_counter() - started)
        return scored

    def _by_canary(self, canary: Canary, scored: Scored, started: float) -> Scored:
        if canary.stage is not None:
            self._counts.scored(canary.stage, CANARY, scored.predictions, perf_counter() - started)
        return scored.as_role(canary.role)

    def _instead(  # noqa: PLR0917
        self,
        part: Part,
        canary: Canary,
        arrivals: Sequence[Arrival],
        score: Scoring,
        started: float,
        error: Exception,
    ) -> Scored:
        """The champion's decisions, because the canary made none."""
        late = isinstance(error, (TimeoutError, NotInTime))
        self._failures.inc()
        if canary.stage is not None:
            self._counts.failed(canary.stage, CANARY, len(part.batch), perf_counter() - started)
        self._log.warning(
            "canary_failed",
            version=canary.serving.version,
            rows=len(part.batch),
            reason="late" if late else type(error).__name__,
            detail=" ".join(str(error).split())[:200],
        )
        scored = score(self._contract, self._champion(), part.batch, arrivals)
        return scored if canary.decides else scored.as_role(SHADOW_ROLE)

    def _keys(self, batch: Batch) -> list[str]:
        cards = None if self._card is None else batch.columns.get(self._card)
        if cards is None:
            return batch.ids
        return [str(card) if card else one for card, one in zip(cards, batch.ids, strict=True)]
