"""Transactions and predictions are stored exactly and once, whoever sends them and how often."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.placement import placement
from fraud_adapters.postgres.scored_transactions import (
    Stored,
    commit_scored,
    store_scored,
    store_transactions,
)
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from tests.integration.store_paths import store_path  # noqa: F401
from tests.support.stored_rows import (
    CREDITCARD,
    START,
    WIRE,
    Database,
    batch,
    predictions,
    run,
    waits_for_a_lock,
)
from tests.support.waiting import eventually

ROUNDS = 4  # of a race: one may be over before the other has begun


@pytest.fixture
def streaming(database: Database) -> Iterator[Connection]:
    with closing(connect(database.url("streaming"), "test")) as connection:
        yield connection


def store(connection: Connection, rows: Batch, contract: Contract = CREDITCARD, **changes: Any) -> Stored:
    predicted = replace(predictions(contract, rows), **changes)
    with connection, connection.cursor() as cursor:
        return store_scored(cursor, contract, rows, predicted, "test")


def counts(database: Database) -> tuple[int, int]:
    query = "SELECT (SELECT count(*) FROM transactions), (SELECT count(*) FROM predictions)"
    transactions, decided = run(database.url("readonly"), query)[0]
    return transactions, decided


def changed(rows: Batch, position: int, name: str = "amount") -> Batch:
    columns = {key: column.copy() for key, column in rows.columns.items()}
    columns[name][position] += 1
    return Batch(rows.ids, rows.event_times, columns)


def test_what_is_stored_is_what_was_scored(database: Database, streaming: Connection) -> None:
    rows = batch(50)
    predicted = predictions(CREDITCARD, rows)
    result = store(streaming, rows)
    assert (result.new, result.replayed, result.conflicts) == (rows.ids, [], [])
    names = [field.name for field in CREDITCARD.inputs]
    stored = run(
        database.url("readonly"),
        f"SELECT transaction_id, event_time, {', '.join(f'{name}::float8' for name in names)},"
        " source, contract, attributes FROM transactions ORDER BY event_time",
    )
    assert [row[0] for row in stored] == rows.ids
    assert [row[1] for row in stored] == rows.event_times
    assert np.array_equal(
        np.array([row[2:-3] for row in stored], dtype=np.float64),
        np.column_stack([rows.columns[name] for name in names]),
    )
    assert {row[-3:] for row in stored} == {("test", "creditcard/1", None)}
    decided = run(
        database.url("readonly"),
        "SELECT score, fraud_score::float8, is_fraud_predicted, decision, feature_vector, model_version,"
        " engine, role, deciding, policy_version, latency_ms, rules_fired"
        " FROM predictions JOIN transactions USING (transaction_id) ORDER BY event_time",
    )
    assert np.array_equal([row[0] for row in decided], predicted.scores)
    assert np.allclose([row[1] for row in decided], predicted.scores, atol=5.1e-5, rtol=0)
    assert [row[2] for row in decided] == predicted.predicted.tolist()
    vectors = np.array([row[4] for row in decided], dtype=np.float64).astype(np.float32)
    assert vectors.tobytes() == feature_matrix(CREDITCARD, rows).tobytes()
    rest = {(row[3], *row[5:11], tuple(row[11])) for row in decided}
    assert rest == {("approve", "7", "xgboost-3.2.0", "champion", True, "0", 1.5, ())}


def test_repeating_changes_nothing_and_the_first_decision_stays(
    database: Database, streaming: Connection
) -> None:
    rows = batch(20)
    store(streaming, rows)
    later = Batch(rows.ids, [moment + timedelta(hours=1) for moment in rows.event_times], rows.columns)
    again = store(streaming, later, decisions=["block"] * 20, model_version="8")
    assert (again.new, again.replayed, again.conflicts) == ([], rows.ids, [])
    assert counts(database) == (20, 20)
    assert run(database.url("readonly"), "SELECT DISTINCT decision, model_version FROM predictions") == [
        ("approve", "7")
    ]


def test_the_same_id_with_other_fields_is_a_conflict_and_stores_nothing(
    database: Database, streaming: Connection
) -> None:
    rows = batch(3)
    store(streaming, rows.take([0, 1]))
    result = store(streaming, changed(rows, 1))
    assert (result.new_rows, result.replayed_rows, result.conflict_rows) == ([2], [0], [1])
    assert counts(database) == (3, 3)
    stored = run(
        database.url("readonly"), "SELECT amount::float8 FROM transactions WHERE transaction_id = 'tx-1'"
    )
    assert stored == [(rows.columns["amount"][1],)]


def test_an_id_twice_in_a_batch(database: Database, streaming: Connection) -> None:
    rows = batch(2)
    other = changed(rows, 0, "v7")
    result = store(streaming, Batch.concat([rows, other, rows]))
    assert (result.new_rows, result.replayed_rows, result.conflict_rows) == ([0, 1], [3, 4, 5], [2])
    assert counts(database) == (2, 2)
    # The stored one is replayed, wherever it stands beside one that differs.
    mixed = store(streaming, Batch.concat([other.take([0]), rows.take([0])]))
    assert (mixed.replayed_rows, mixed.conflict_rows) == ([1], [0])


def test_history_gets_its_prediction_later(database: Database, streaming: Connection) -> None:
    rows = batch(5)
    with streaming, streaming.cursor() as cursor:
        assert store_transactions(cursor, CREDITCARD, rows, "backfill").new == rows.ids
        assert store_transactions(cursor, CREDITCARD, rows, "backfill").replayed == rows.ids
    assert counts(database) == (5, 0)
    scored = store(streaming, Batch.concat([rows, rows]))
    assert scored.replayed == rows.ids * 2
    assert (scored.decided_rows, scored.decided_before) == ([0, 1, 2, 3, 4], [])
    assert counts(database) == (5, 5)
    again = store(streaming, rows)
    assert (again.decided_rows, again.decided_before) == ([], rows.ids)


def test_what_is_newly_blocked_or_reviewed_waits_to_be_announced(
    database: Database, streaming: Connection
) -> None:
    rows = batch(6)
    with streaming, streaming.cursor() as cursor:
        store_transactions(cursor, CREDITCARD, rows.take([0]), "backfill")
    store(streaming, rows, decisions=["block", "review", "approve"] * 2)
    announced = "SELECT transaction_id FROM alert_outbox ORDER BY 1"
    waiting = [(f"tx-{number}",) for number in (0, 1, 3, 4)]
    assert run(database.url("readonly"), announced) == waiting
    # Neither what was decided before, nor what is refused, nor what does not decide.
    store(streaming, changed(rows, 2), decisions=["block"] * 6)
    store(streaming, rows, decisions=["block"] * 6, deciding=False, role="batch", run_id="one")
    with pytest.raises(errors.DataError):
        store(streaming, batch(2, prefix="x"), decisions=["block"] * 2, model_version="x" * 21)
    assert run(database.url("readonly"), announced) == waiting


def test_predictions_that_do_not_decide_are_stored_once_a_run(
    database: Database, streaming: Connection
) -> None:
    rows = batch(4)
    store(streaming, rows)
    for run_id in ("one", "one", "two"):
        store(streaming, rows, deciding=False, role="batch", run_id=run_id)
    assert counts(database) == (4, 12)
    with pytest.raises(ValueError, match="run_id"):
        store(streaming, rows, deciding=False, role="batch")


@pytest.mark.parametrize("same", [True, False])
def test_two_connections_racing_for_the_same_ids(database: Database, same: bool) -> None:
    rows = batch(300)
    second_rows = rows if same else changed(rows, 150)
    results: dict[str, Stored] = {}
    start = Barrier(2)

    def work(role: str, own_rows: Batch) -> None:
        with closing(connect(database.url(role), "test")) as connection:
            start.wait(10)
            results[role] = store(connection, own_rows)

    threads = [Thread(target=work, args=pair) for pair in (("streaming", rows), ("api", second_rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts(database) == (300, 300)
    assert sorted(results["streaming"].new + results["api"].new) == sorted(rows.ids)
    conflicts = results["streaming"].conflicts + results["api"].conflicts
    assert conflicts == ([] if same else ["tx-150"])


@pytest.mark.parametrize("history", [True, False])
def test_the_same_ids_in_another_order_do_not_deadlock(database: Database, history: bool) -> None:
    start = Barrier(2)
    results: list[Stored] = []

    def work(role: str, order: int) -> None:
        with closing(connect(database.url(role), "test")) as connection:
            for number in range(ROUNDS):
                rows = batch(400, prefix=f"r{number}").take(range(400)[::order])
                start.wait(20)
                results.append(store(connection, rows))

    if history:
        with closing(connect(database.url("streaming"), "test")) as connection:
            for number in range(ROUNDS):
                with connection, connection.cursor() as cursor:
                    store_transactions(cursor, CREDITCARD, batch(400, prefix=f"r{number}"), "backfill")
    threads = [Thread(target=work, args=pair) for pair in (("streaming", 1), ("api", -1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2 * ROUNDS
    assert sum(len(stored.decided_rows) for stored in results) == ROUNDS * 400
    assert counts(database) == (ROUNDS * 400, ROUNDS * 400)


def test_the_second_waits_for_the_first_and_takes_over_when_it_rolls_back(database: Database) -> None:
    rows = batch(5)
    with (
        closing(connect(database.url("streaming"), "one")) as one,
        closing(connect(database.url("api"), "two")) as two,
    ):
        store_scored(one.cursor(), CREDITCARD, rows, predictions(CREDITCARD, rows), "test")
        results: list[Stored] = []
        waiting = Thread(target=lambda: results.append(store(two, rows)))
        waiting.start()
        assert eventually(lambda: waits_for_a_lock(database.url("admin"), "two"))
        assert waiting.is_alive()
        one.rollback()
        waiting.join(20)
    assert results[0].new == rows.ids
    assert counts(database) == (5, 5)


def test_several_batches_in_one_transaction_and_a_rollback_between(
    database: Database, streaming: Connection
) -> None:
    first, second = batch(10, prefix="a"), batch(10, seed=2, prefix="b")
    with streaming.cursor() as cursor:
        store_scored(cursor, CREDITCARD, first, predictions(CREDITCARD, first), "test")
        streaming.rollback()
        for rows in (first, second):
            store_scored(cursor, CREDITCARD, rows, predictions(CREDITCARD, rows), "test")
        streaming.commit()
        assert (
            store_scored(cursor, CREDITCARD, first.take([]), predictions(CREDITCARD, first.take([])), "t").new
            == []
        )
        streaming.autocommit = True
        with pytest.raises(ValueError, match="autocommit"):
            store_scored(cursor, CREDITCARD, first, predictions(CREDITCARD, first), "test")
    assert counts(database) == (20, 20)


def test_nan_is_refused_with_the_whole_batch(database: Database, streaming: Connection) -> None:
    for where in ("amount", "v3", "score", "infinite feature"):
        rows = batch(3)
        predicted = predictions(CREDITCARD, rows)
        if where in rows.columns:
            rows.columns[where][1] = np.nan
        elif where == "score":
            predicted.scores[1] = np.nan
        else:
            predicted.feature_vectors[1, 4] = np.inf
        with pytest.raises((errors.CheckViolation, errors.DataError)), streaming:
            store_scored(streaming.cursor(), CREDITCARD, rows, predicted, "test")
            pytest.fail(where)
    assert counts(database) == (0, 0)


def wire_rows() -> Batch:
    texts: list[str] = ['quo"te, and {brace}', "ünïcode ✓", "\\N", "line\nbreak"]
    return Batch(
        [f"w{number}" for number in range(4)],
        [START] * 4,
        {
            "sent_amount": np.array([0.001, 123456789.123, 5.0, 0.3]),
            "hour": np.array([0.0, 23.0, 7.0, 12.0]),
            "channel": np.array(["web", "phone", "branch", "web"], dtype=object),
            "urgent": np.array([1.0, 0.0, 0.0, 1.0]),
            "fee": np.array([np.nan, 1.25, 0.0, np.nan]),
            "payer": np.array(texts, dtype=object),
            "payee": np.array(["shop", "", "shop", "x" * 40], dtype=object),
        },
    )


def test_a_contract_of_ones_own_goes_to_attributes_and_reads_back(
    database: Database, streaming: Connection
) -> None:
    rows = wire_rows()
    assert store(streaming, rows, WIRE).new == rows.ids
    assert store(streaming, rows, WIRE).replayed == rows.ids
    assert store(streaming, changed(rows, 2, "hour"), WIRE).conflict_rows == [2]
    assert store(streaming, rows.take([0]), WIRE.model_copy(update={"version": 4})).conflicts == ["w0"]
    expressions = placement(WIRE).expressions(WIRE)
    stored = run(
        database.url("readonly"),
        f"SELECT {', '.join(expressions.values())} FROM transactions ORDER BY transaction_id",
    )
    for name, column in zip(expressions, zip(*stored, strict=True), strict=True):
        want = rows.columns[name].tolist()
        if name == "fee":
            want = [None, 1.25, 0.0, None]
        assert list(column) == want, name
    documents = run(database.url("readonly"), "SELECT attributes, card_id FROM transactions ORDER BY 2")
    assert {json.dumps(sorted(document)) for document, _ in documents} == {
        '["channel", "hour", "sent_amount", "urgent"]',
        '["channel", "fee", "hour", "sent_amount", "urgent"]',
    }


def test_a_label_in_the_record_becomes_the_class_and_is_no_field(
    database: Database, streaming: Connection
) -> None:
    rows = batch(3)
    with_class = Batch(rows.ids, rows.event_times, rows.columns | {"class": np.array([1.0, 0.0, np.nan])})
    store(streaming, with_class, decisions=["block"] * 3)
    stored = run(database.url("readonly"), "SELECT class FROM transactions ORDER BY transaction_id")
    assert stored == [(1,), (0,), (None,)]
    assert store(streaming, rows).replayed == rows.ids


# A digit more than is kept: halves that a double lies above, below or on.
TIES = [0.0, 1.0, 0.00005, 0.00015, 0.12345, 0.62345, 0.99995, 0.00004999999, 0.5]


def test_the_rounded_score_is_the_score_as_the_server_rounds_it(
    database: Database, streaming: Connection
) -> None:
    scores = np.concatenate(
        [TIES, (np.arange(400) + 0.5) / 10_000, np.random.default_rng(1).uniform(size=91)]
    )
    store(streaming, batch(len(scores)), scores=scores)
    wrong = "SELECT score, fraud_score FROM predictions WHERE fraud_score <> score::numeric(5, 4)"
    assert run(database.url("readonly"), wrong) == []
    assert counts(database) == (500, 500)


def test_what_is_the_same_for_all_rows_is_stored_with_each(database: Database, streaming: Connection) -> None:
    rows, moment = batch(3), START + timedelta(days=3, microseconds=7)
    shared: dict[str, Any] = {"prediction_time": moment, "policy_version": "é", "run_id": "one"}
    store(streaming, rows, traceparents=["a", None, 'ü "quoted"'], role="canary", **shared)
    columns = "prediction_time, policy_version, run_id, role, deciding, traceparent"
    stored = run(
        database.url("readonly"), f'SELECT {columns} FROM predictions ORDER BY traceparent COLLATE "C"'
    )
    assert [row[:-1] for row in stored] == [(moment, "é", "one", "canary", True)] * 3
    assert [row[-1] for row in stored] == ["a", 'ü "quoted"', None]


def test_predictions_of_now_have_the_time_of_the_database(database: Database, streaming: Connection) -> None:
    before = run(database.url("readonly"), "SELECT clock_timestamp()")[0][0]
    store(streaming, batch(2))
    (first, last), after = (
        run(database.url("readonly"), "SELECT min(prediction_time), max(prediction_time) FROM predictions")[
            0
        ],
        run(database.url("readonly"), "SELECT clock_timestamp()")[0][0],
    )
    assert before <= first <= last <= after


def test_a_plan_kept_from_empty_tables_reads_no_table_whole(
    database: Database, streaming: Connection
) -> None:
    """The session planned its statements when reading all of a table was the quickest."""
    for table in ("transactions", "predictions", "labels", "alert_outbox"):
        run(database.url("owner"), f"ANALYZE {table}")
    store(streaming, batch(3, prefix="before"))
    store(streaming, batch(3, prefix="before"), decisions=["block"] * 3)
    store(streaming, batch(2000, prefix="many"))
    scanned = (
        "SELECT relname, seq_scan FROM pg_stat_user_tables"
        " WHERE relname IN ('transactions', 'predictions', 'labels', 'label_sources', 'alert_outbox')"
        " ORDER BY 1"
    )

    def scans() -> list[tuple[Any, ...]]:
        with streaming, streaming.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
        return run(database.url("readonly"), scanned)

    before = scans()
    store(streaming, batch(40, prefix="new"), decisions=["block"] * 40)
    store(streaming, Batch.concat([batch(40, prefix="many"), batch(5, prefix="more")]))
    assert scans() == before


def test_a_batch_by_itself_is_committed_or_leaves_nothing(database: Database, streaming: Connection) -> None:
    rows = batch(3)
    with streaming.cursor() as cursor:
        assert commit_scored(cursor, CREDITCARD, rows, predictions(CREDITCARD, rows), "test").new == rows.ids
        assert counts(database) == (3, 3)
        again = commit_scored(cursor, CREDITCARD, rows, predictions(CREDITCARD, rows), "test")
        assert (again.replayed, again.decided_before) == (rows.ids, rows.ids)
        refused = batch(3, prefix="x")
        with pytest.raises(errors.DataError):
            commit_scored(
                cursor,
                CREDITCARD,
                refused,
                replace(predictions(CREDITCARD, refused), model_version="x" * 21),
                "test",
            )
        assert counts(database) == (3, 3)
        # The connection is as it was: what follows is one transaction again.
        store_scored(cursor, CREDITCARD, refused, predictions(CREDITCARD, refused), "test")
        with pytest.raises(ValueError, match="has begun"):
            commit_scored(cursor, CREDITCARD, rows, predictions(CREDITCARD, rows), "test")
        streaming.rollback()
    assert counts(database) == (3, 3)
