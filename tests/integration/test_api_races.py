"""The same id sent by many: two API processes and the stream on one database, and an API killed at work."""

from __future__ import annotations

import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, TypeVar

import httpx
import pytest

from config.settings import KafkaSettings
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored, store_transactions
from fraud_adapters.postgres.session import Cursor, Session
from tests.support.api_server import ApiServer, ForkedApi, cloned, creditcard, scoring_server
from tests.support.stored_rows import (
    CREDITCARD,
    Database,
    batch,
    predictions,
    run,
    waits_for_a_lock,
)
from tests.support.streaming_installation import STREAMING, StreamInstallation, creditcard_records
from tests.support.waiting import eventually

ItemT = TypeVar("ItemT")
AT_ONCE = 16  # requests with the same id
DEADLOCK_TIMEOUT = (
    "2s"  # the server's own is one: too short to get into a deadlock on purpose when it is busy
)


@pytest.fixture(scope="module")
def home(template: Any, postgres_admin_url: str) -> Iterator[Database]:
    with cloned(template, postgres_admin_url, "races_api") as clone:
        yield clone


@pytest.fixture(scope="module")
def servers(home: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ApiServer]]:
    """Two processes of the API on one database."""
    directory = tmp_path_factory.mktemp("races-api")
    with scoring_server(home, directory) as one:
        shutil.copytree(one.cache, directory / "models-2")
        other = ForkedApi(one.database_url, directory / "models-2", directory / "api-2.log")
        try:
            other.start()
            yield [one, other]
        finally:
            other.stop()


@pytest.fixture(scope="module")
def post(servers: list[ApiServer]) -> Iterator[Callable[[int, dict[str, Any]], httpx.Response]]:
    """Send a record to one of the servers, by number."""
    clients = [server.client() for server in servers]

    def send(number: int, record: dict[str, Any]) -> httpx.Response:
        return clients[number % 2].post("/predict", json=record)

    yield send
    for client in clients:
        client.close()


Post = Callable[[int, dict[str, Any]], httpx.Response]


def together(send: Post, records: Sequence[dict[str, Any]]) -> list[httpx.Response]:
    """All of them at once."""
    start = threading.Barrier(len(records))

    def one(number: int) -> httpx.Response:
        start.wait(20)
        return send(number, records[number])

    with ThreadPoolExecutor(len(records)) as pool:
        return list(pool.map(one, range(len(records))))


def stored(database: Database, prefix: str) -> dict[str, tuple[Any, ...]]:
    """Amount, source, score and decision of transactions, by id; there is one deciding prediction of each."""
    rows = run(
        database.url("readonly"),
        "SELECT transaction_id, amount::float8, source, score, decision FROM transactions"
        " JOIN predictions USING (transaction_id) WHERE deciding AND transaction_id LIKE %s",
        f"{prefix}-%",
    )
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("history", [False, True])
def test_the_same_transaction_sent_by_many_at_once_is_decided_once(
    home: Database, post: Post, history: bool
) -> None:
    """The same for a transaction that is stored but undecided, as history is."""
    prefix = "known" if history else "same"
    rows = batch(8, prefix=prefix)
    if history:
        with closing(connect(home.url("producer"), "test")) as connection, connection:
            store_transactions(connection.cursor(), CREDITCARD, rows, "simulator")
    for position, identifier in enumerate(rows.ids):
        record = {name: float(column[position]) for name, column in rows.columns.items()}
        answers = together(post, [record | {"transaction_id": identifier}] * AT_ONCE)
        assert [answer.status_code for answer in answers] == [200] * AT_ONCE
        documents = [answer.json() for answer in answers]
        assert Counter(one.pop("replayed") for one in documents) == {False: 1, True: AT_ONCE - 1}
        assert all(one == documents[0] for one in documents)
        _, source, score, decision = stored(home, prefix)[identifier]
        assert (source, score, decision) == (
            "simulator" if history else "api",
            documents[0]["score"],
            documents[0]["decision"],
        )
    assert len(stored(home, prefix)) == 8


def test_of_different_transactions_with_one_id_one_wins(home: Database, post: Post) -> None:
    for number in range(8):
        record = creditcard(f"differ-{number}", seed=number)
        amounts = [float(position % 4 + 1) for position in range(AT_ONCE)]
        answers = together(post, [record | {"amount": amount} for amount in amounts])
        (won,) = {
            amount
            for amount, answer in zip(amounts, answers, strict=True)
            if answer.status_code == httpx.codes.OK
        }
        for amount, answer in zip(amounts, answers, strict=True):
            assert answer.status_code == (200 if amount == won else 409)
            if amount != won:
                assert answer.json()["conflicts"] == [f"differ-{number}"]
        assert stored(home, "differ")[f"differ-{number}"][0] == won
        fresh = [answer for answer in answers if answer.status_code == 200 and not answer.json()["replayed"]]
        assert len(fresh) == 1


@pytest.mark.parametrize("conflicting", [False, True])
def test_the_api_and_the_stream_race_for_the_same_ids(
    home: Database, topics: KafkaSettings, servers: list[ApiServer], post: Post, conflicting: bool
) -> None:
    prefix = "conflict" if conflicting else "common"
    ids = [f"{prefix}-{number:03d}" for number in range(300)]
    records = creditcard_records(ids)
    installation = StreamInstallation(
        home, topics, servers[0].url, streaming=STREAMING.model_copy(update={"max_bad_share": 1.0})
    )
    installation.send(records)
    dearer = 1.0 if conflicting else 0.0
    direct = [record | {"amount": round(record["amount"] + dearer, 2)} for record in records]
    # The API sends in reverse order and waits once, so that each side has stored some ids when they meet.
    direct.reverse()
    answers = in_threads(lambda item: post(*item), list(enumerate(direct[:50])))
    result: dict[str, Any] = {}
    stream = threading.Thread(target=lambda: result.update(installation.consume(chunk_records=10)))
    stream.start()
    assert eventually(lambda: any(row[1] == "stream" for row in stored(home, prefix).values()), 30)
    answers += in_threads(lambda item: post(*item), list(enumerate(direct[50:])))
    stream.join(60)
    won = Counter(row[1] for row in stored(home, prefix).values())
    assert (won["api"] + won["stream"], set(won)) == (300, {"api", "stream"})
    assert result["consumed"] == 300
    assert result["stored"] == won["stream"]
    by_source = stored(home, prefix)
    for record, answer in zip(direct, answers, strict=True):
        amount, source, score, decision = by_source[record["transaction_id"]]
        if conflicting:
            assert answer.status_code == (200 if source == "api" else 409)
            assert (amount == record["amount"]) == (source == "api")
        else:
            assert (answer.status_code, answer.json()["replayed"]) == (200, source == "stream")
            assert (answer.json()["score"], answer.json()["decision"]) == (score, decision)
    dead_letters = installation.rows(
        "SELECT reason, convert_from(payload, 'UTF8')::json ->> 'transaction_id' FROM dead_letters"
        " WHERE topic = %s",
        topics.topic,
    )
    lost = {identifier for identifier, row in by_source.items() if row[1] == "api"}
    assert set(dead_letters) == {("id_conflict", identifier) for identifier in lost if conflicting}
    assert result["replayed"] == (0 if conflicting else won["api"])


def in_threads(work: Callable[[ItemT], httpx.Response], items: Sequence[ItemT]) -> list[httpx.Response]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, items))


def test_a_transaction_that_lost_a_deadlock_is_tried_again(database: Database) -> None:
    rows = batch(2)
    name = run(database.url("admin"), "SELECT current_database()")[0][0]
    run(database.url("admin"), f"ALTER DATABASE {name} SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'")
    session = Session(database.url("api"), "deadlock test")
    attempts: list[int] = []
    results: list[Any] = []

    def work(cursor: Cursor) -> list[str]:
        attempts.append(1)
        return store_scored(cursor, CREDITCARD, rows, predictions(CREDITCARD, rows), "api").new

    insert = (
        "INSERT INTO transactions (transaction_id, event_time, contract, source)"
        " VALUES (%s, now(), 'creditcard/1', 'test')"
    )
    with closing(connect(database.url("admin"), "test")) as other, other.cursor() as cursor:
        cursor.execute("SET deadlock_timeout = '5min'")  # so that the other session is the deadlock's victim
        cursor.execute(insert, (rows.ids[1],))
        thread = threading.Thread(target=lambda: results.append(session.run(work)))
        thread.start()
        assert eventually(lambda: waits_for_a_lock(database.url("admin"), "deadlock test"))
        cursor.execute(insert, (rows.ids[0],))
        other.rollback()
        thread.join(30)
    session.close()
    assert (results, len(attempts)) == ([rows.ids], 2)


def test_what_was_answered_is_stored_though_the_api_is_killed(
    home: Database, servers: list[ApiServer]
) -> None:
    """The last test of the module: it kills both servers."""
    records = {f"kill-{number}": creditcard(f"kill-{number}", seed=number) for number in range(4000)}
    source = random.Random(3)
    answered: set[str] = set()
    remaining = iter(records)
    for server in servers:
        before = len(answered)
        headers = {"Authorization": f"Bearer {server.token()}"}
        down = threading.Event()

        def load(url: str = server.url, headers: Any = headers, down: threading.Event = down) -> None:
            with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
                while not down.is_set():
                    identifier = next(remaining)
                    with suppress(httpx.TransportError):
                        if client.post("/predict", json=records[identifier]).status_code == httpx.codes.OK:
                            answered.add(identifier)

        threads = [threading.Thread(target=load) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        goal = before + source.randrange(150, 250)
        assert eventually(lambda goal=goal: len(answered) >= goal, 40)  # type: ignore[misc]
        assert server.process is not None
        server.process.kill()
        down.set()
        for thread in threads:
            thread.join(30)
        server.process.wait()
        server.process = None
        assert answered <= stored(home, "kill").keys()
