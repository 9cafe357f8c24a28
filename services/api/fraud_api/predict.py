"""`POST /predict` and `POST /predict/batch`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Final, TypeVar

from fastapi import Request
from fastapi.responses import Response

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_adapters.columnar import answer_to_ipc
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api.arrival import Arrival, arrival_of
from fraud_api.content import media_type
from fraud_api.metrics import Metrics
from fraud_api.model_holder import ModelHolder, Serving
from fraud_api.problems import Problem, json_response, unavailable
from fraud_api.requests import RequestParser, may_be_list, refuse_repeated_ids
from fraud_api.scoring import Scored, arrow_answer, json_answers, score_batch, score_single
from fraud_api.writer import Outcome, PredictionWriter, WriterBusy
from fraud_core.batch import Batch
from fraud_core.contract import Contract

# Large bodies are parsed and scored beside the event loop, so that it stays responsive; more threads than
# cores would only make each of them slower.
BATCHES_AT_ONCE: Final = 2
JSON: Final = "application/json"
T = TypeVar("T")
SINGLE: Final = "/predict"
BATCH: Final = "/predict/batch"


class Predictor:
    """Scores transactions with the model that serves, and stores what it decided."""

    def __init__(
        self,
        *,
        contract: Contract,
        holder: ModelHolder,
        parser: RequestParser,
        writer: PredictionWriter,
        metrics: Metrics,
    ) -> None:
        self._contract = contract
        self._holder = holder
        self._parser = parser
        self._writer = writer
        self._metrics = metrics
        self._slots = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def predict(self, request: Request) -> Response:
        """One record, or a list of them as `{"new_data": […]}`; stored before it is answered."""
        arrival = arrival_of(request)
        if media_type(request, JSON) != JSON:
            raise Problem(415, f"The body must be {JSON}.")
        body = await request.body()
        if may_be_list(body) and (listed := await self._scored_list(body, arrival)) is not None:
            outcome = await self._stored(listed, SINGLE)
            return json_response({"predictions": json_answers(listed, outcome)})
        batch = self._parser.single(body, arrival.at)
        scored = _stamped(score_single(self._contract, self._serving(), batch), arrival)
        outcome = await self._stored(scored, SINGLE)
        return json_response(json_answers(scored, outcome)[0])

    async def predict_batch(self, request: Request) -> Response:
        """Many records, as JSON or as an Arrow stream; stored only when asked for."""
        arrival = arrival_of(request)
        kind = media_type(request, JSON)
        store = _flag(request, "store")
        body = await request.body()
        if kind == ARROW:
            return await self._predict_columns(body, store, arrival)
        if kind != JSON:
            raise Problem(415, f"The body must be {JSON} or {ARROW}.")
        serving = self._serving()

        def work() -> tuple[Scored, bool]:
            wanted = self._parser.batch(body, arrival.at)
            return self._score(serving, wanted.batch, arrival), wanted.store

        scored, asked = await self._beside_the_loop(work)
        if store or asked:
            return json_response({"predictions": json_answers(scored, await self._stored(scored, BATCH))})
        self._count(BATCH, scored.predictions.decisions)
        return json_response({"predictions": json_answers(scored, None)})

    async def _predict_columns(self, body: bytes, store: bool, arrival: Arrival) -> Response:
        if store:
            # One answer names one model; stored decisions may be another model's.
            raise Problem(422, "A columnar body is scored, not stored: send JSON with store.")
        serving = self._serving()

        def work() -> tuple[Scored, bytes]:
            scored = self._score(serving, self._parser.columnar(body), arrival)
            return scored, answer_to_ipc(arrow_answer(scored))

        scored, answer = await self._beside_the_loop(work)
        self._count(BATCH, scored.predictions.decisions)
        return Response(answer, media_type=ARROW)

    async def _scored_list(self, body: bytes, arrival: Arrival) -> Scored | None:
        """None where the body is one record after all."""
        serving = self._serving()

        def work() -> Scored | None:
            listed = self._parser.listed(body, arrival.at)
            return None if listed is None else self._score(serving, listed, arrival)

        return await self._beside_the_loop(work)

    def _serving(self) -> Serving:
        serving = self._holder.current
        if serving is None:
            raise unavailable("There is no model that may serve.")
        return serving

    def _score(self, serving: Serving, batch: Batch, arrival: Arrival) -> Scored:
        return _stamped(score_batch(self._contract, serving, batch), arrival)

    async def _beside_the_loop(self, work: Callable[[], T]) -> T:
        async with self._slots:
            return await asyncio.to_thread(work)

    async def _stored(self, scored: Scored, route: str) -> Outcome:
        """Store, and answer 409 where an id is known with other fields."""
        refuse_repeated_ids(scored.batch.ids)
        try:
            outcome = await self._writer.store(scored.batch, scored.predictions)
        except DatabaseUnavailable:
            raise unavailable(
                "The decision cannot be stored at the moment: the database does not answer."
            ) from None
        except WriterBusy:
            raise unavailable("More transactions are waiting to be stored than can be.") from None
        if outcome.conflicts:
            raise Problem(
                409,
                "A transaction_id is known with other fields; the request's other transactions are stored.",
                conflicts=sorted(outcome.conflicts),
            )
        self._count(route, scored.predictions.decisions)
        get_logger(__name__).debug(
            "stored", rows=len(scored.batch), traceparent=scored.predictions.traceparents[0]
        )
        if outcome.replayed:
            self._metrics.replayed.inc(len(outcome.replayed))
        return outcome

    def _count(self, route: str, decisions: Sequence[str]) -> None:
        for decision, rows in Counter(decisions).items():
            self._metrics.scored.labels(route, decision).inc(rows)


def _stamped(scored: Scored, arrival: Arrival) -> Scored:
    """With the time from the request's arrival to its score, in milliseconds, and its trace."""
    elapsed = (perf_counter() - arrival.started) * 1000
    traceparents = [arrival.traceparent] * len(scored.batch)
    return replace(scored, predictions=scored.predictions.stamped(elapsed, traceparents))


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in {"true", "false"}:
        raise Problem(422, f"{name} must be true or false.")
    return value == "true"
