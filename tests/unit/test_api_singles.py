"""Transactions decided together get what each would get alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.parameters import read_yaml
from fraud_api.arrival import Arrival
from fraud_api.model_holder import Serving
from fraud_api.problems import Problem, unavailable
from fraud_api.releases.arms import Part
from fraud_api.requests import RequestParser
from fraud_api.scoring import Scored
from fraud_api.singles import MAX_GROUP, SingleDecisions
from fraud_api.writer import Decided, Outcome
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_core.predictions import Predictions
from fraud_core.records import RecordParser

WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
NOW = datetime(2026, 5, 1, tzinfo=UTC)
STORED = Decided(0.25, False, "approve", "6", "onnx", 1.0)


class Store:
    """Remembers what it was given; some ids are known, refused by the database, or stored meanwhile."""

    def __init__(self, *, known: Sequence[str] = (), refused: Sequence[str] = ()) -> None:
        self.known = set(known)
        self.refused = set(refused)
        self.calls: list[Scored] = []
        self.decided: set[str] = set()

    async def __call__(self, scored: Scored) -> Outcome:
        self.calls.append(scored)
        ids = scored.batch.ids
        assert len(set(ids)) == len(ids)
        await asyncio.sleep(0)
        if self.refused.intersection(ids):
            raise psycopg2.DataError("refused")
        replayed = {one: STORED for one in ids if one in self.decided}
        self.decided.update(ids)
        return Outcome(replayed, frozenset(self.known.intersection(ids)))

    @property
    def stored(self) -> list[list[str]]:
        return [scored.batch.ids for scored in self.calls]


def score(batch: Batch, arrivals: Sequence[Arrival]) -> Scored:
    """The amount decides; one amount makes the model fail."""
    if 666.0 in batch.columns["sent_amount"]:
        raise ArithmeticError
    predictions = Predictions.from_scores(
        1 - 1 / (1 + batch.columns["sent_amount"]),
        feature_matrix(WIRE, batch),
        threshold=0.5,
        block_threshold=0.9,
        model_version="7",
        engine="onnx",
        policy_version="0",
    )
    return Scored(batch, predictions, cast(Serving, None)).stamped(arrivals)


class OneModel:
    """Scores everything with one model."""

    def split(self, batch: Batch) -> list[Part]:
        return [Part(range(len(batch)), batch)]

    async def score_few(self, part: Part, arrivals: Sequence[Arrival]) -> Scored:
        return score(part.batch, arrivals)


def body(identifier: str, **changes: Any) -> bytes:
    good = {"sent_amount": 1.5, "hour": 3, "channel": "web", "urgent": False, "payer": "a", "payee": "b"}
    record = {"transaction_id": identifier} | good | changes
    return json.dumps({name: value for name, value in record.items() if value is not ...}).encode()


Result = dict[str, Any] | BaseException


def decide(store: Any, bodies: Sequence[bytes], *, together: bool = True) -> list[Result]:
    """The answer or the error of every request."""
    parser = RequestParser(WIRE, RecordParser(WIRE, make_id=lambda: "made"), 3)
    decisions = SingleDecisions(parser, OneModel(), store)

    async def one(content: bytes, number: int) -> dict[str, Any]:
        return await decisions.decide(content, Arrival(NOW, 0.0, f"trace-{number}"))

    async def run() -> list[Result]:
        requests = [one(content, number) for number, content in enumerate(bodies)]
        if together:
            return await asyncio.gather(*requests, return_exceptions=True)
        return [(await asyncio.gather(request, return_exceptions=True))[0] for request in requests]

    return asyncio.run(run())


def shown(result: Result) -> Any:
    """What of a result does not depend on when it was computed."""
    if isinstance(result, Problem):
        return result.status, result.detail, result.members
    assert isinstance(result, dict), result
    document = json.loads(orjson.dumps(result))
    assert document.pop("latency_ms") > 0
    return document


def test_requests_that_wait_together_are_scored_and_stored_together() -> None:
    store = Store()
    results = decide(store, [body(f"t{number}", sent_amount=1 + number) for number in range(5)])
    assert store.stored == [["t0", "t1", "t2", "t3", "t4"]]
    assert [shown(result)["score"] for result in results] == [0.5, *(1 - 1 / (2 + n) for n in range(1, 5))]
    assert store.calls[0].predictions.traceparents == [f"trace-{number}" for number in range(5)]


def test_a_group_is_limited() -> None:
    store = Store()
    results = decide(store, [body(f"t{number}") for number in range(MAX_GROUP + 1)])
    assert [len(ids) for ids in store.stored] == [MAX_GROUP, 1]
    assert all(isinstance(result, dict) for result in results)


bodies = st.one_of(
    st.builds(body, st.just("same"), sent_amount=st.sampled_from([0.5, 3.0])),
    st.builds(
        body,
        st.uuids().map(str),
        sent_amount=st.sampled_from([0.5, 30.0, 1e12, 0.005, float("nan"), "1", ...]),
        hour=st.sampled_from([3, 24, 3.5]),
        payer=st.sampled_from(["a", "", "\u0000", "known"]),
    ),
    st.sampled_from([b"", b"{", b"[]", b'{"hour": 1, "hour": 2}', b" " * 70_000, "ü".encode("latin-1")]),
)


@given(st.lists(bodies, min_size=1, max_size=8))
def test_every_request_gets_what_it_would_get_alone(requests: list[bytes]) -> None:
    together = [shown(result) for result in decide(Store(), requests)]
    alone = [shown(result) for result in decide(Store(), requests, together=False)]
    assert together == alone


def test_the_same_transaction_twice_is_stored_once_and_replayed() -> None:
    store = Store()
    results = decide(store, [body("a"), body("same"), body("same"), body("same"), body("b")])
    assert store.stored == [["a", "same", "b"], ["same"], ["same"]]
    assert all(isinstance(result, dict) for result in results)
    versions = [result["model_version"] for result in results if isinstance(result, dict)]
    assert versions == ["7", "7", "6", "6", "7"]  # the stored decision was another model's


def test_a_known_transaction_is_only_its_own_requests_problem() -> None:
    good, bad = decide(Store(known=["bad"]), [body("good"), body("bad")])
    assert isinstance(good, dict)
    assert isinstance(bad, Problem)
    assert (bad.status, bad.members) == (409, {"conflicts": ["bad"]})


def test_a_row_that_the_database_refuses_fails_alone() -> None:
    store = Store(refused=["bad"])
    results = decide(store, [body("a"), body("bad"), body("b")])
    assert store.stored == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    assert [type(result) for result in results] == [dict, psycopg2.DataError, dict]


def test_a_row_that_cannot_be_scored_fails_alone() -> None:
    store = Store()
    results = decide(store, [body("a"), body("bad", sent_amount=666.0), body("b")])
    assert store.stored == [["a"], ["b"]]
    assert [type(result) for result in results] == [dict, ArithmeticError, dict]


def test_what_prevents_storing_is_every_requests_problem() -> None:
    async def away(_scored: Scored) -> Outcome:
        raise unavailable("The database is away.")

    results = decide(away, [body("a"), body("b"), body("c", hour=24)])
    assert [one.status for one in results if isinstance(one, Problem)] == [503, 503, 422]


def test_a_request_that_is_given_up_leaves_the_others() -> None:
    parser = RequestParser(WIRE, RecordParser(WIRE), 3)
    store = Store()
    decisions = SingleDecisions(parser, OneModel(), store)

    async def run() -> dict[str, Any]:
        arrival = Arrival(NOW, 0.0, None)
        given_up, waiting = (asyncio.create_task(decisions.decide(body(one), arrival)) for one in "ab")
        await asyncio.sleep(0)
        given_up.cancel()
        return await waiting

    assert asyncio.run(run())["transaction_id"] == "b"
    assert store.stored == [["a", "b"]]


@pytest.mark.parametrize("rows", [1, 3])
def test_latencies_are_each_requests_own(rows: int) -> None:
    records = RecordParser(WIRE).parse([body(str(row)) for row in range(rows)], [NOW] * rows)
    scored = score(records.batch, [Arrival(NOW, -float(row), None) for row in range(rows)])
    assert np.allclose(np.diff(scored.predictions.latency_ms), 1000, atol=1)
