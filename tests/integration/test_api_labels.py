"""`PUT /predictions/{id}/label`: the ledger, the class, the case and the audit log, in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg2
import pytest
from httpx import Response

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from tests.support.api_application import Application
from tests.support.stored_rows import CREDITCARD, Database, batch, predictions, run
from tests.support.waiting import eventually

CLIENT: Final = "analyst-7"
WAITING: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
AUDITED: Final = """
    SELECT actor, db_role, subject, details FROM audit_log WHERE action = 'label.set' ORDER BY entry_id
"""
CASE: Final = "SELECT state, decision, decided_by, label_id::text, closed_at IS NOT NULL FROM cases"


@pytest.fixture
def application(database: Database, tmp_path: Path) -> Iterator[Application]:
    transactions = batch(3)
    made = predictions(CREDITCARD, transactions, "block")
    with (
        closing(connect(database.url("api"), "test")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        store_scored(cursor, CREDITCARD, transactions, made, "api")
    created = Application.create(tmp_path, database.url("api"))
    yield created
    created.service.queries.close()


def label(
    application: Application, identifier: str, value: Any, note: str | None = None, **options: Any
) -> Response:
    body = {"label": value} | ({"note": note} if note else {})
    client = {"client": CLIENT} | options
    return application.request("PUT", f"/predictions/{identifier}/label", "label", json=body, **client)


def ledger(database: Database) -> list[tuple[Any, ...]]:
    return run(
        database.url("owner"),
        "SELECT transaction_id, label, source, reported_by, matures_at - reported_at = maturity"
        " FROM labels JOIN label_sources USING (source) ORDER BY received_at",
    )


def audit(database: Database) -> list[tuple[Any, ...]]:
    return run(database.url("readonly"), AUDITED)


def case_of(database: Database, identifier: str) -> int:
    statement = "INSERT INTO cases (transaction_id) VALUES (%s) RETURNING case_id"
    [(case,)] = run(database.url("owner"), statement, identifier)
    return int(case)


def test_a_label_is_stored_with_everything_that_follows_from_it(
    database: Database, application: Application
) -> None:
    case = case_of(database, "tx-0")
    answer = label(application, "tx-0", 1, "the cardholder called")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["stored"], document["class_now"], document["closed_case"]) == (True, 1, case)
    assert ledger(database) == [("tx-0", 1, "analyst", CLIENT, True)]
    [(actor, db_role, subject, details)] = audit(database)
    assert (actor, subject, details["label"], details["note"]) == (CLIENT, "tx-0", 1, "the cardholder called")
    assert details["label_id"] == document["label_id"]
    assert db_role.endswith("api")
    owner = database.url("owner")
    assert run(
        owner, "SELECT state, decision, decided_by, label_id::text, closed_at IS NOT NULL FROM cases"
    ) == [("closed", 1, CLIENT, document["label_id"], True)]
    [(kind, event)] = run(owner, "SELECT kind, details FROM case_events")
    assert (kind, event["note"]) == ("labelled", "the cardholder called")
    shown = application.request("GET", "/predictions/tx-0", "read").json()
    assert (shown["label"], shown["label_implied"]) == (1, False)
    assert run(database.url("readonly"), "SELECT * FROM audit_verify()") == []


def test_a_repetition_changes_nothing_and_another_label_counts(
    database: Database, application: Application
) -> None:
    case_of(database, "tx-0")
    first = label(application, "tx-0", 1).json()
    again = label(application, "tx-0", 1, "said again").json()
    assert again == first | {"stored": False, "closed_case": None}
    assert len(ledger(database)) == len(audit(database)) == 1
    corrected = label(application, "tx-0", 0).json()
    assert (corrected["stored"], corrected["class_now"]) == (True, 0)
    assert run(database.url("owner"), "SELECT state, decision FROM cases") == [("closed", 0)]
    other = label(application, "tx-0", 0, client="somebody-else").json()
    assert other["stored"]  # another person's report, that agrees
    assert [row[3] for row in ledger(database)] == [CLIENT, CLIENT, "somebody-else"]


def test_a_repetition_closes_a_case_that_was_opened_since(
    database: Database, application: Application
) -> None:
    label(application, "tx-1", 0)
    case = case_of(database, "tx-1")
    assert label(application, "tx-1", 0).json()["closed_case"] == case


def test_what_cannot_be_labelled_is_refused(database: Database, application: Application) -> None:
    missing = label(application, "nobody", 1)
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    bodies: list[Any] = [
        {},
        {"label": 2},
        {"label": True},
        {"label": "1"},
        {"label": 1, "source": "chargeback"},
        [],
    ]
    for body in bodies:
        answer = application.request("PUT", "/predictions/tx-0/label", "label", json=body)
        assert answer.status_code == 422, body
    for note in ("x" * 501, "a\x00b"):
        assert label(application, "tx-0", 1, note).status_code == 422
    assert ledger(database) == audit(database) == []


def test_the_same_label_at_the_same_moment_is_stored_once(
    database: Database, application: Application
) -> None:
    answers: list[Response] = []
    with closing(connect(database.url("owner"), "test")) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT FROM transactions WHERE transaction_id = 'tx-0' FOR UPDATE")
        other = Application.create(Path("/nonexistent"), database.url("api"))
        threads = [
            threading.Thread(target=lambda one=one: answers.append(label(one, "tx-0", 1)))
            for one in (application, other)
        ]
        for thread in threads:
            thread.start()
        assert eventually(lambda: run(database.url("admin"), WAITING) == [(2,)])
        holder.commit()
        for thread in threads:
            thread.join()
    other.service.queries.close()
    assert sorted(answer.json()["stored"] for answer in answers) == [False, True]
    assert len(ledger(database)) == len(audit(database)) == 1


def test_the_api_may_not_write_labels_or_cases_in_another_way(database: Database) -> None:
    for statement in (
        "INSERT INTO labels VALUES (gen_random_uuid(), 'tx-0', 1, 'analyst', now(), now())",
        "SELECT FROM labels",
        "UPDATE cases SET state = 'closed'",
        "INSERT INTO case_events (case_id, actor, kind) VALUES (1, 'x', 'labelled')",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run(database.url("api"), statement)


# --- the paths of the source ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("predictions", "predictions"),
        ("frauds", "predictions/frauds"),
        ("non_frauds", "predictions/non-frauds"),
        ("stats", "predictions/stats"),
    ],
)
def test_a_deprecated_path_answers_as_its_successor_and_names_it(
    application: Application, old: str, new: str
) -> None:
    deprecated = application.request("GET", f"/query/GET/{old}?model_version=7", "read")
    successor = application.request("GET", f"/{new}?model_version=7", "read")
    assert deprecated.json() == successor.json()
    assert deprecated.headers["deprecation"] == "@1796083200"  # 2026-12-01
    assert deprecated.headers["link"] == f'</{new}>; rel="successor-version"'
    assert "deprecation" not in successor.headers


def test_a_cursor_leads_from_a_deprecated_path_to_its_successor(application: Application) -> None:
    cursor = application.request("GET", "/query/GET/predictions?limit=1", "read").json()["next_cursor"]
    page = application.request("GET", f"/predictions?cursor={cursor}", "read").json()
    assert len(page["predictions"]) == 2


def test_the_deprecated_way_to_label_stores_the_same(database: Database, application: Application) -> None:
    body = {"transaction_id": "tx-2", "label": 1}
    answer = application.request("PUT", "/query/PUT/predictions", "label", json=body, client=CLIENT)
    assert answer.status_code == 200, answer.text
    assert answer.headers["link"] == '</predictions/tx-2/label>; rel="successor-version"'
    assert ledger(database) == [("tx-2", 1, "analyst", CLIENT, True)]
    assert label(application, "tx-2", 1).json()["stored"] is False


# --- the audit log --------------------------------------------------------------------------------


def test_the_audit_log_is_read_by_filters_and_pages(database: Database, application: Application) -> None:
    for number, value in enumerate((0, 1, 0, 1, 0)):
        label(application, f"tx-{number % 3}", value)

    def page(query: str = "") -> Any:
        answer = application.request("GET", f"/audit-log?{query}", "admin")
        assert answer.status_code == 200, answer.text
        return answer.json()

    everything = page("limit=1000")["entries"]
    numbers = [entry["entry_id"] for entry in everything]
    assert numbers == list(range(len(numbers), 0, -1))
    labelled = page("action=label.set")["entries"]
    assert len(labelled) == 5
    assert labelled == [entry for entry in everything if entry["action"] == "label.set"]
    assert [entry["subject"] for entry in page("subject=tx-0&actor=" + CLIENT)["entries"]] == ["tx-0", "tx-0"]
    assert page("from=2100-01-01T00:00:00Z") == {"entries": [], "next_cursor": None}
    found, cursor = [], ""
    while True:
        part = page(f"action=label.set&limit=2{cursor}")
        found += part["entries"]
        label(application, "tx-1", len(found) % 2)  # a newer entry moves no page
        if part["next_cursor"] is None:
            break
        cursor = f"&cursor={part['next_cursor']}"
    assert found == labelled
    for query in ("limit=0", "colour=red", "from=now", "actor=", "cursor=x", f"action=x{cursor}"):
        assert application.request("GET", f"/audit-log?{query}", "admin").status_code == 422, query
