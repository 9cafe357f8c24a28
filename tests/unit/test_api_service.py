"""Credentials, the writer's grouping, and the problem documents, without servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import orjson
import psycopg2
import pytest

from config.parameters import read_yaml
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.scored_transactions import Stored
from fraud_api import writer as writers
from fraud_api.credentials import KeyEncryptionError, KeyVault, hash_secret, secret_matches
from fraud_api.metrics import Metrics
from fraud_api.problems import Problem, unavailable
from fraud_api.writer import Outcome, PredictionWriter, WriterBusy
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import Predictions

WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))


def test_secrets_are_matched_by_their_hash_alone() -> None:
    stored = hash_secret("right")
    assert secret_matches(stored, "right")
    assert not secret_matches(stored, "wrong")
    assert not secret_matches(None, "right")
    assert not secret_matches("no hash", "right")
    assert hash_secret("right") != stored


def test_private_keys_open_with_their_own_secret_only() -> None:
    sealed = KeyVault("one secret of sixteen").lock("private")
    assert KeyVault("one secret of sixteen").unlock(sealed) == "private"
    with pytest.raises(KeyEncryptionError, match="API_KEY_ENCRYPTION_SECRET"):
        KeyVault("another secret, longer").unlock(sealed)
    with pytest.raises(KeyEncryptionError):
        KeyVault("one secret of sixteen").unlock("not sealed at all")


def test_a_problem_is_a_document_of_its_own_type() -> None:
    response = Problem(409, "Why.", headers={"X-A": "b"}, conflicts=["a"]).response()
    assert response.media_type == "application/problem+json"
    assert orjson.loads(response.body) == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "Why.",
        "conflicts": ["a"],
    }
    assert unavailable("Later.").headers["Retry-After"] == "1"


# --- the writer -----------------------------------------------------------------------------------


class FakeSession:
    """Keeps what each database transaction stored; can be held up, and can fail for an id."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.free = Event()
        self.free.set()
        self.entered = Event()
        self.failure: Exception | None = None
        self.refused_id: str | None = None

    def run(self, work: Callable[[Any], Any]) -> Any:
        self.entered.set()
        assert self.free.wait(5)
        if self.failure is not None:
            raise self.failure
        return work(self)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    session = FakeSession()

    def store(_cursor: Any, _contract: Any, batch: Batch, predictions: Predictions, _source: str) -> Stored:
        if session.refused_id in batch.ids:
            raise psycopg2.DataError("refused")
        assert len(batch) == len(predictions.scores) == len(predictions.traceparents)
        session.transactions.append(list(batch.ids))
        return Stored(batch.ids, list(range(len(batch))), [], [])

    monkeypatch.setattr(writers, "commit_scored", store)
    return session


@pytest.fixture
def writer(session: FakeSession) -> Iterator[PredictionWriter]:
    prediction_writer = PredictionWriter(session, WIRE, Metrics())  # type: ignore[arg-type]
    prediction_writer.start()
    yield prediction_writer
    session.free.set()
    prediction_writer.stop()


def rows(*ids: str, version: str = "1") -> tuple[Batch, Predictions]:
    n = len(ids)
    batch = Batch(list(ids), [], {"hour": np.zeros(n)})
    predictions = Predictions(
        scores=np.zeros(n),
        predicted=np.zeros(n, dtype=bool),
        decisions=["approve"] * n,
        model_version=version,
        engine="onnx",
        feature_vectors=np.zeros((n, 2), dtype=np.float32),
        policy_version="0",
        latency_ms=np.zeros(n, dtype=np.float32),
        traceparents=[None] * n,
    )
    return batch, predictions


async def held_up(
    writer: PredictionWriter, session: FakeSession, *requests: tuple[Batch, Predictions]
) -> list[Outcome | BaseException]:
    """Requests that all arrive while the writer is busy with another one."""
    session.free.clear()
    session.entered.clear()
    first = asyncio.create_task(writer.store(*rows("busy")))
    await asyncio.to_thread(session.entered.wait, 5)
    tasks = [asyncio.create_task(writer.store(*request)) for request in requests]
    await asyncio.sleep(0)  # each task begins, and waits in the queue
    session.free.set()
    return (await asyncio.gather(first, *tasks, return_exceptions=True))[1:]


def test_what_waits_is_stored_together(writer: PredictionWriter, session: FakeSession) -> None:
    asyncio.run(held_up(writer, session, rows("a"), rows("b", "c"), rows("d")))
    assert session.transactions == [["busy"], ["a", "b", "c", "d"]]


def test_the_same_id_and_another_model_go_apart_in_order(
    writer: PredictionWriter, session: FakeSession
) -> None:
    asyncio.run(held_up(writer, session, rows("a"), rows("a"), rows("b", version="2"), rows("c")))
    assert session.transactions == [["busy"], ["a", "c"], ["a"], ["b"]]


def test_without_database_everybody_is_told(writer: PredictionWriter, session: FakeSession) -> None:
    session.failure = DatabaseUnavailable("gone")
    results = asyncio.run(held_up(writer, session, rows("a"), rows("b")))
    assert [type(result) for result in results] == [DatabaseUnavailable, DatabaseUnavailable]


def test_a_row_the_database_refuses_fails_alone(writer: PredictionWriter, session: FakeSession) -> None:
    session.refused_id = "bad"
    results = asyncio.run(held_up(writer, session, rows("a"), rows("bad"), rows("b")))
    assert [type(result) for result in results] == [Outcome, psycopg2.DataError, Outcome]
    assert session.transactions == [["busy"], ["a"], ["b"]]


def test_nobody_waits_for_ever_for_a_database_that_stands_still(
    writer: PredictionWriter, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "ANSWER_SECONDS", 0.05)
    session.free.clear()
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(asyncio.wait_for(writer.store(*rows("a")), 2))
    session.free.set()


def test_too_much_waiting_is_refused_at_once(
    writer: PredictionWriter, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_WAITING", 2)
    results = asyncio.run(held_up(writer, session, rows("a"), rows("b"), rows("c")))
    assert [type(result) for result in results] == [Outcome, Outcome, WriterBusy]


def test_rows_of_several_requests_count_as_so_many(
    writer: PredictionWriter, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_WAITING", 3)

    async def story() -> list[Outcome | BaseException]:
        session.free.clear()
        session.entered.clear()
        first = asyncio.create_task(writer.store(*rows("busy")))
        await asyncio.to_thread(session.entered.wait, 5)
        group = asyncio.create_task(writer.store(*rows("a", "b", "c"), requests=3))
        await asyncio.sleep(0)
        refused = asyncio.create_task(writer.store(*rows("d")))
        await asyncio.sleep(0)
        session.free.set()
        return list(await asyncio.gather(first, group, refused, return_exceptions=True))

    assert [type(result) for result in asyncio.run(story())] == [Outcome, Outcome, WriterBusy]
    assert isinstance(asyncio.run(writer.store(*rows("later"), requests=3)), Outcome)


def test_stopping_stores_what_is_waiting(session: FakeSession) -> None:
    writer = PredictionWriter(session, WIRE, Metrics())  # type: ignore[arg-type]
    writer.start()

    async def story() -> list[Outcome | BaseException]:
        session.free.clear()
        tasks = [asyncio.create_task(writer.store(*rows(name))) for name in "ab"]
        await asyncio.sleep(0)  # each task begins, and waits in the queue
        asyncio.get_running_loop().call_later(0.05, session.free.set)
        await asyncio.to_thread(writer.stop)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    assert all(isinstance(result, Outcome) for result in asyncio.run(story()))
    assert sorted(name for group in session.transactions for name in group) == ["a", "b"]
    with pytest.raises(WriterBusy):
        asyncio.run(writer.store(*rows("late")))


def test_replays_and_conflicts_reach_their_own_request(
    writer: PredictionWriter, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = writers.Decided(0.5, True, "review", "0", "xgboost", 1.0)

    def store(_cursor: Any, _contract: Any, batch: Batch, *_others: Any) -> Stored:
        positions = {name: position for position, name in enumerate(batch.ids)}
        named = [[positions[name]] if name in positions else [] for name in ("new", "old", "other")]
        return Stored(batch.ids, *named)

    monkeypatch.setattr(writers, "commit_scored", store)
    monkeypatch.setattr(writers, "read_decided", lambda _cursor, ids: dict.fromkeys(ids, known))
    results = asyncio.run(held_up(writer, session, rows("new"), rows("old"), rows("other")))
    assert results == [
        Outcome({}, frozenset()),
        Outcome({"old": known}, frozenset()),
        Outcome({}, frozenset({"other"})),
    ]
