"""Queries over stored predictions, and labels that people set, against a real database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
import pytest

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from tests.support.api_application import Application
from tests.support.api_server import cloned
from tests.support.stored_rows import CREDITCARD, Database, batch, predictions, run

ROWS: Final = 40
NOON: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def stored(template: Any, postgres_admin_url: str) -> Iterator[Database]:
    """A database with 40 predictions a minute apart: scores rise, the last ten are of version 8 as canary."""
    with cloned(template, postgres_admin_url, "api_queries") as clone:
        store(clone, "old", 30, NOON)
        store(clone, "new", 10, NOON + timedelta(minutes=30), model_version="8", role="canary")
        run(
            clone.url("owner"),
            "UPDATE transactions SET card_id = 'card-1' WHERE transaction_id LIKE 'old-1%'",
        )
        yield clone


@pytest.fixture(scope="module")
def application(stored: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    made = Application.create(tmp_path_factory.mktemp("models"), stored.url("api"))
    yield made
    made.service.queries.close()


def store(database: Database, prefix: str, rows: int, first: datetime, **shared: Any) -> None:
    """Store decided transactions, each a minute after the one before."""
    transactions = batch(rows, prefix=prefix)
    scores = np.linspace(0, 0.99, rows)
    made = predictions(CREDITCARD, transactions, scores=scores.tolist())
    decisions = ["block" if score >= 0.9 else "review" if score >= 0.5 else "approve" for score in scores]
    made = replace(made, decisions=decisions, **shared)
    with closing(connect(database.url("api"), "test")) as connection:
        for row in range(rows):
            moment = first + timedelta(minutes=row)
            one = replace(made.take([row]), prediction_time=moment)
            with connection, connection.cursor() as cursor:
                store_scored(cursor, CREDITCARD, transactions.take([row]), one, "api")


def ask(application: Application, path: str, **filters: Any) -> Any:
    answer = application.request("GET", f"{path}?{urlencode(filters, doseq=True)}", "read")
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(application: Application, path: str = "/predictions", **filters: Any) -> list[str]:
    return [
        row["transaction_id"] for row in ask(application, path, **{"limit": 1000} | filters)["predictions"]
    ]


def all_pages(application: Application, **filters: Any) -> list[str]:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = ask(application, "/predictions", **filters, **cursor)
        found += [row["transaction_id"] for row in page["predictions"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


NEWEST_FIRST: Final = [f"new-{n}" for n in reversed(range(10))] + [f"old-{n}" for n in reversed(range(30))]

BLOCKED: Final = ["new-9", "old-29", "old-28", "old-27"]


def test_pages_of_every_size_hold_every_prediction_once_in_order(application: Application) -> None:
    for limit in (1, 7, 20, 40, 41):
        assert all_pages(application, limit=limit) == NEWEST_FIRST


def test_predictions_of_the_same_moment_come_once_each(database: Database, tmp_path: Path) -> None:
    transactions = batch(9)
    made = replace(predictions(CREDITCARD, transactions), prediction_time=NOON)
    with (
        closing(connect(database.url("api"), "test")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        store_scored(cursor, CREDITCARD, transactions, made, "api")
    application = Application.create(tmp_path, database.url("api"))
    assert sorted(all_pages(application, limit=2)) == sorted(transactions.ids)
    application.service.queries.close()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"from": "2026-06-01T12:30:00Z"}, NEWEST_FIRST[:10]),
        ({"to": "2026-06-01T14:30:00+02:00"}, NEWEST_FIRST[10:]),
        ({"decision": "block"}, BLOCKED),
        ({"decision": ["block", "review"], "model_version": "8"}, [f"new-{n}" for n in (9, 8, 7, 6, 5)]),
        ({"role": "canary", "is_fraud_predicted": "false"}, [f"new-{n}" for n in (4, 3, 2, 1, 0)]),
        ({"role": "batch"}, []),
        ({"min_score": 0.95, "max_score": 0.96}, ["old-28"]),
        ({"card_id": "card-1", "decision": "review"}, ["old-19", "old-18", "old-17", "old-16", "old-15"]),
        ({"merchant_id": "nobody"}, []),
        ({"transaction_id": "old-3"}, ["old-3"]),
        ({"min_amount": 1e9}, []),
        # Nobody reported these transactions of 2024: they count as legitimate unless they were blocked.
        ({"label": 0}, [one for one in NEWEST_FIRST if one not in BLOCKED]),
        ({"label": 1}, []),
        ({"labelled": "false"}, BLOCKED),
        ({"labelled": "true", "decision": "block"}, []),
    ],
)
def test_filters_select(application: Application, filters: dict[str, Any], expected: list[str]) -> None:
    assert ids(application, **filters) == expected


def test_frauds_and_the_others_are_all(application: Application) -> None:
    frauds, others = ids(application, "/predictions/frauds"), ids(application, "/predictions/non-frauds")
    assert frauds == [one for one in NEWEST_FIRST if one in set(frauds)]
    assert sorted(frauds + others) == sorted(NEWEST_FIRST)
    assert ids(application, "/predictions/frauds", model_version="8") == [f"new-{n}" for n in (9, 8, 7, 6, 5)]


def test_amounts_are_compared_as_they_are_stored(application: Application) -> None:
    rows = ask(application, "/predictions", limit=1000)["predictions"]
    chosen = rows[7]["amount"]
    assert ids(application, min_amount=chosen, max_amount=chosen) == [
        row["transaction_id"] for row in rows if row["amount"] == chosen
    ]


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-06-01T00:00:00",
        "from=2026-06-02T00:00:00Z&to=2026-06-01T00:00:00Z",
        "min_score=0.9&max_score=0.1",
        "min_score=nan",
        "min_amount=inf",
        "decision=perhaps",
        "label=2",
        "limit=0",
        "limit=1001",
        "card_id=%00",
        "cursor=x",
        "cursor=%C3%A4",
        "cursor=bnVsbA",
        "colour=red",
        "role=shadow",
        "start=2026-06-01T00:00:00Z",
    ],
)
def test_what_is_not_a_filter_is_refused(application: Application, query: str) -> None:
    answer = application.request("GET", f"/predictions?{query}", "read")
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_cursor_belongs_to_its_query(application: Application) -> None:
    cursor = ask(application, "/predictions", limit=5)["next_cursor"]
    for query in (f"/predictions?cursor={cursor}&model_version=7", f"/predictions/frauds?cursor={cursor}"):
        answer = application.request("GET", query, "read")
        assert answer.status_code == 422
        assert "other filters" in answer.json()["detail"]
    assert len(ids(application, cursor=cursor)) == 35  # another limit is the same query


def test_figures_count_what_the_filters_select(application: Application) -> None:
    figures = ask(application, "/predictions/stats")
    assert figures["predictions"] == 40
    assert figures["decisions"] == {"approve": 20, "review": 16, "block": 4}
    assert figures["frauds_predicted"] == 20
    assert figures["labelled"] == 36
    assert figures["quality"]["false_positives"] == 16
    assert figures["quality"]["recall"] is None  # no fraud is known
    assert {(one["model_version"], one["role"]): one["predictions"] for one in figures["versions"]} == {
        ("7", "champion"): 30,
        ("8", "canary"): 10,
    }
    none = ask(application, "/predictions/stats", model_version="9")
    assert (none["predictions"], none["fraud_rate"], none["versions"]) == (0, None, [])
    rows = ask(application, "/predictions", limit=1000, model_version="8")["predictions"]
    eight = ask(application, "/predictions/stats", model_version="8")
    assert eight["amount"] == pytest.approx(sum(row["amount"] for row in rows))
    assert eight["mean_score"] == pytest.approx(np.mean([row["score"] for row in rows]))


def test_one_prediction_is_shown_with_everything(application: Application) -> None:
    document = ask(application, "/predictions/new-9")
    assert document["flag"] == "FRAUD"
    assert document["features"]["v1"] == np.float32(document["transaction"]["v1"])
    assert document["transaction"].keys() == {field.name for field in CREDITCARD.inputs}
    assert document["others"] == []
    missing = application.request("GET", "/predictions/nobody", "read")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"


# --- while rows change ----------------------------------------------------------------------------


def test_pages_skip_and_repeat_nothing_while_others_write(database: Database, tmp_path: Path) -> None:
    """Newer rows come all the time, and older ones become visible late: a transaction that began first."""
    store(database, "before", 30, NOON)
    application = Application.create(tmp_path, database.url("api"))
    late, made = batch(1, prefix="late"), predictions(CREDITCARD, batch(1))
    with closing(connect(database.url("api"), "test")) as slow:
        with slow.cursor() as cursor:
            between = replace(made, prediction_time=NOON + timedelta(minutes=10, seconds=30))
            store_scored(cursor, CREDITCARD, late, between, "api")
        found: list[str] = []
        cursor_of: dict[str, str] = {}
        for page_number in range(100):
            page = ask(application, "/predictions", limit=3, **cursor_of)
            found += [row["transaction_id"] for row in page["predictions"]]
            store(database, f"during-{page_number}", 1, NOON + timedelta(hours=1, minutes=page_number))
            if page_number == 2:
                slow.commit()
            if page["next_cursor"] is None:
                break
            cursor_of = {"cursor": page["next_cursor"]}
    assert len(found) == len(set(found))
    assert [one for one in found if one.startswith("before")] == [f"before-{n}" for n in reversed(range(30))]
    # It became visible before its place was reached; what was stored as newer is not of these pages.
    assert set(found) - {f"before-{n}" for n in range(30)} == {"late-0"}
    application.service.queries.close()
