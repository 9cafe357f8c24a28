"""`POST /predict` and `POST /predict/batch`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from fastapi import Request
from fastapi.responses import Response

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_adapters.columnar import answer_to_ipc
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api.arrival import Arrival, arrival_of
from fraud_api.hindsight import MOST_REASONS, Explained, explanation_document
from fraud_api.media_type import media_type
from fraud_api.metrics import Metrics
from fraud_api.problems import Problem, json_response, unavailable
from fraud_api.releases.arms import SHADOW_ROLE, Arms
from fraud_api.requests import RequestParser, conflict, may_be_list, refuse_repeated_ids
from fraud_api.scoring import Scored, ScoredPart, arrow_answer, json_answers
from fraud_api.singles import SingleDecisions
from fraud_api.writer import Outcome, PredictionWriter, WriterBusy

# Large bodies are parsed and scored in threads, so that the event loop stays responsive. More threads than
# cores would only slow each other down.
BATCHES_AT_ONCE: Final = 2
JSON: Final = "application/json"
# Explanations are made on request, beside the decisions: they may wait, and decisions may not.
EXPLAINED_AT_ONCE: Final = 2
EXPLAIN_SECONDS: Final = 5.0
MAX_EXPLAINED: Final = 100  # records of a list
T = TypeVar("T")
SINGLE: Final = "/predict"
BATCH: Final = "/predict/batch"


class Explainer(Protocol):
    """Explains stored decisions; see `fraud_api.hindsight`."""

    def explain_each(self, transaction_ids: Sequence[str]) -> dict[str, Explained | str]: ...


class Predictor:
    """Scores transactions with the served models, and stores the decisions."""

    def __init__(
        self,
        *,
        parser: RequestParser,
        arms: Arms,
        writer: PredictionWriter,
        metrics: Metrics,
        hindsight: Explainer,
    ) -> None:
        self._parser = parser
        self._hindsight = hindsight
        self._explaining = asyncio.Semaphore(EXPLAINED_AT_ONCE)
        self._arms = arms
        self._writer = writer
        self._metrics = metrics
        self._singles = SingleDecisions(parser, arms, self._store_singles)
        self._log = get_logger(__name__)
        self._slots = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def predict(self, request: Request) -> Response:
        """Score one record, or a list `{"new_data": […]}`; decisions are stored before the response is
        sent."""
        arrival = arrival_of(request)
        if media_type(request, JSON) != JSON:
            raise Problem(415, f"The body must be {JSON}.")
        explain = _boolean_parameter(request, "explain")
        body = await request.body()
        if may_be_list(body) and (scored_list := await self._score_list(body, arrival)) is not None:
            if explain and sum(len(part.rows) for part in scored_list) > MAX_EXPLAINED:
                raise Problem(422, f"At most {MAX_EXPLAINED} records of a list are explained.")
            answers = await self._store_list(scored_list, SINGLE)
            return json_response({"predictions": await self._explain(answers) if explain else answers})
        answer = await self._singles.decide(body, arrival)
        return json_response((await self._explain([answer]))[0] if explain else answer)

    async def predict_batch(self, request: Request) -> Response:
        """Score many records, as JSON or as an Arrow stream; decisions are stored only on request."""
        arrival = arrival_of(request)
        kind = media_type(request, JSON)
        store = _boolean_parameter(request, "store")
        body = await request.body()
        if kind == ARROW:
            return await self._predict_columns(body, store, arrival)
        if kind != JSON:
            raise Problem(415, f"The body must be {JSON} or {ARROW}.")

        def work() -> tuple[list[ScoredPart], bool]:
            request_batch = self._parser.batch(body, arrival.at)
            return self._arms.score_many(request_batch.batch, arrival), request_batch.store

        parts, store_requested = await self._run_in_thread(work)
        if store or store_requested:
            return json_response({"predictions": await self._store_list(parts, BATCH)})
        for part in parts:
            self._count(BATCH, part.scored.predictions.decisions)
        return json_response({"predictions": _in_order(parts, [None] * len(parts))})

    async def _explain(self, answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers with their reasons. The decisions are stored already: what fails here is said in the
        answer, and fails no request."""
        ids = [answer["transaction_id"] for answer in answers]
        try:
            async with asyncio.timeout(EXPLAIN_SECONDS), self._explaining:
                explained = await asyncio.to_thread(self._hindsight.explain_each, ids)
        except TimeoutError:
            explained = dict.fromkeys(ids, "The explanation took too long.")
        documents = {name: explanation_document(one, MOST_REASONS) for name, one in explained.items()}
        return [answer | {"explanation": documents[answer["transaction_id"]]} for answer in answers]

    async def _predict_columns(self, body: bytes, store: bool, arrival: Arrival) -> Response:
        if store:
            # A columnar response names the models that score now, but stored decisions may be of others.
            raise Problem(422, "A columnar body is scored, not stored: send JSON with store.")

        def work() -> tuple[list[ScoredPart], bytes]:
            batch = self._parser.parse_columnar(body)
            parts = self._arms.score_many(batch, arrival)
            return parts, answer_to_ipc(arrow_answer(batch.ids, parts))

        parts, answer = await self._run_in_thread(work)
        for part in parts:
            self._count(BATCH, part.scored.predictions.decisions)
        return Response(answer, media_type=ARROW)

    async def _score_list(self, body: bytes, arrival: Arrival) -> list[ScoredPart] | None:
        """None if the body turns out to be a single record."""

        def work() -> list[ScoredPart] | None:
            scored_list = self._parser.parse_list(body, arrival.at)
            return None if scored_list is None else self._arms.score_many(scored_list, arrival)

        return await self._run_in_thread(work)

    async def _run_in_thread(self, work: Callable[[], T]) -> T:
        async with self._slots:
            return await asyncio.to_thread(work)

    async def _store_singles(self, scored: Scored) -> Outcome:
        """Store the decisions of as many requests, which have distinct ids."""
        outcome = await self._store(scored, requests=len(scored.batch))
        self._note_stored(scored, outcome, SINGLE)
        for traceparent in scored.predictions.traceparents:
            self._log.debug("stored", rows=1, traceparent=traceparent)
        return outcome

    async def _store_list(self, parts: Sequence[ScoredPart], route: str) -> list[dict[str, Any]]:
        """Store the decisions of one request and answer them; raises Problem 409 if an id is known with other
        fields."""
        refuse_repeated_ids([identifier for part in parts for identifier in part.scored.batch.ids])
        outcomes = [await self._store(part.scored, requests=1) for part in parts]
        if conflicts := [identifier for outcome in outcomes for identifier in outcome.conflicts]:
            raise conflict(conflicts)
        for part, outcome in zip(parts, outcomes, strict=True):
            self._note_stored(part.scored, outcome, route)
            traceparent = part.scored.predictions.traceparents[0]
            self._log.debug("stored", rows=len(part.rows), traceparent=traceparent)
        return _in_order(parts, outcomes)

    async def _store(self, scored: Scored, requests: int) -> Outcome:
        if scored.predictions.role == SHADOW_ROLE:
            return Outcome({}, frozenset())
        try:
            return await self._writer.store(scored.batch, scored.predictions, requests)
        except DatabaseUnavailable:
            raise unavailable(
                "The decision cannot be stored at the moment: the database does not answer."
            ) from None
        except WriterBusy:
            raise unavailable("Too many transactions are waiting to be stored.") from None

    def _note_stored(self, scored: Scored, outcome: Outcome, route: str) -> None:
        decisions: Sequence[str] = scored.predictions.decisions
        if outcome.conflicts:
            pairs = zip(scored.batch.ids, decisions, strict=True)
            decisions = [decision for identifier, decision in pairs if identifier not in outcome.conflicts]
        self._count(route, decisions)
        if outcome.replayed:
            self._metrics.replayed.inc(len(outcome.replayed))

    def _count(self, route: str, decisions: Sequence[str]) -> None:
        for decision, rows in Counter(decisions).items():
            self._metrics.scored.labels(route, decision).inc(rows)


def _in_order(parts: Sequence[ScoredPart], outcomes: Sequence[Outcome | None]) -> list[dict[str, Any]]:
    """One answer for each row, in the order of the request."""
    if len(parts) == 1:
        return json_answers(parts[0].scored, outcomes[0])
    answers = {
        row: answer
        for part, outcome in zip(parts, outcomes, strict=True)
        for row, answer in zip(part.rows, json_answers(part.scored, outcome), strict=True)
    }
    return [answers[row] for row in range(len(answers))]


def _boolean_parameter(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in {"true", "false"}:
        raise Problem(422, f"{name} must be true or false.")
    return value == "true"
