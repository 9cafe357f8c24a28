"""Decides about single transactions: those that wait at the same time are parsed, scored and stored together.

Every array operation, call of the model and hand-over to the writer costs the same for one row as for many,
so a transaction in a group costs a fraction of one alone. What is decided does not depend on the group.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fraud_api.arrival import Arrival
from fraud_api.problems import Problem
from fraud_api.releases.arms import Part
from fraud_api.requests import RequestParser, conflict
from fraud_api.scoring import Scored, json_answers
from fraud_api.writer import Outcome
from fraud_core.batch import Batch

MAX_GROUP: Final = 64  # transactions; more would keep the event loop busy for too long at once

Store = Callable[[Scored], Awaitable[Outcome]]


class Scorer(Protocol):
    """Who scores; see `fraud_api.releases.arms`."""

    def split(self, batch: Batch) -> Sequence[Part]: ...

    async def score_few(self, part: Part, arrivals: Sequence[Arrival]) -> Scored: ...


@dataclass(slots=True)
class _Waiting:
    body: bytes
    arrival: Arrival
    answer: asyncio.Future[dict[str, Any]]

    def refuse(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class SingleDecisions:
    """Groups the transactions of requests.

    Args:
        scorer: splits a batch between models, and scores the parts; every row has its own arrival.
        store: stores rows with distinct ids; what it raises is about all of them.
    """

    def __init__(self, parser: RequestParser, scorer: Scorer, store: Store) -> None:
        self._parser = parser
        self._scorer = scorer
        self._store = store
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def decide(self, body: bytes, arrival: Arrival) -> dict[str, Any]:
        """The stored decision about the record in a body.

        Raises:
            Problem: those of `RequestParser.parse_each`, 409 if the id is known with other fields, and what
                scorer and `store` raise.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(body, arrival, loop.create_future())
        if not self._waiting:
            # By then, the loop has run whatever else was ready: requests that arrived together.
            loop.call_soon(self._begin)
        self._waiting.append(one)
        return await one.answer

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MAX_GROUP):
            task = asyncio.get_running_loop().create_task(self._answer(waiting[start : start + MAX_GROUP]))
            self._tasks.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, group: Sequence[_Waiting]) -> None:
        try:
            parts = self._parse(group)
        except Exception as error:
            await self._answer_singly(group, error)
            return
        if len(parts) == 1:
            await self._answer_part(*parts[0])
        else:
            # Side by side, so that nobody waits for a model that does not serve him.
            await asyncio.gather(*(self._answer_part(part, waiting) for part, waiting in parts))

    async def _answer_singly(self, group: Sequence[_Waiting], error: Exception) -> None:
        """What fails for one transaction must not fail the other requests."""
        if len(group) > 1 and not isinstance(error, Problem):
            for one in group:
                if not one.answer.done():
                    await self._answer([one])
            return
        for one in group:
            one.refuse(error)

    def _parse(self, group: Sequence[_Waiting]) -> list[tuple[Part, list[_Waiting]]]:
        """The transactions by the model that serves them; what is no transaction is refused."""
        parsed = self._parser.parse_each([one.body for one in group], [one.arrival.at for one in group])
        for index, problem in parsed.problems:
            group[index].refuse(problem)
        if not parsed.kept:
            return []
        valid = [group[index] for index in parsed.kept]
        return [(part, [valid[row] for row in part.rows]) for part in self._scorer.split(parsed.batch)]

    async def _answer_part(self, part: Part, waiting: Sequence[_Waiting]) -> None:
        try:
            scored = await self._scorer.score_few(part, [one.arrival for one in waiting])
            for rows in _rounds(scored.batch.ids):
                await self._store_rows(scored, rows, waiting)
        except Exception as error:
            await self._answer_singly(waiting, error)

    async def _store_rows(self, scored: Scored, rows: Sequence[int], valid: Sequence[_Waiting]) -> None:
        part = scored if len(rows) == len(scored.batch) else scored.take(rows)
        try:
            outcome = await self._store(part)
            answers = json_answers(part, outcome)
        except Problem:
            raise
        except Exception:
            if len(rows) == 1:
                raise
            # As they are, so that records without an id keep the one that was made for them.
            for row in rows:
                await self._store_alone(scored, row, valid)
            return
        for row, answer in zip(rows, answers, strict=True):
            _settle(valid[row], answer, outcome)

    async def _store_alone(self, scored: Scored, row: int, valid: Sequence[_Waiting]) -> None:
        try:
            await self._store_rows(scored, [row], valid)
        except Exception as error:
            valid[row].refuse(error)


def _rounds(ids: Sequence[str]) -> list[list[int]]:
    """The rows, in rounds without a repeated id: a transaction sent again must find the first stored."""
    if len(set(ids)) == len(ids):
        return [list(range(len(ids)))]
    occurrences: Counter[str] = Counter()
    rounds: list[list[int]] = []
    for row, identifier in enumerate(ids):
        if occurrences[identifier] == len(rounds):
            rounds.append([])
        rounds[occurrences[identifier]].append(row)
        occurrences[identifier] += 1
    return rounds


def _settle(one: _Waiting, answer: dict[str, Any], outcome: Outcome) -> None:
    identifier = answer["transaction_id"]
    if identifier in outcome.conflicts:
        one.refuse(conflict([identifier]))
    elif not one.answer.done():
        one.answer.set_result(answer)
