"""The verbs of the feedback collection on a real database: each once more gives the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from fraud_adapters.job.failures import LastingFailure, RefusedFailure
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.dead_letters import DeadLetter, store_dead_letters
from fraud_adapters.postgres.examples import LABEL, LABEL_SOURCE, database_clock, read_examples
from fraud_adapters.postgres.labels import store_labels
from fraud_core.labels import LabelEvent
from fraud_monitor.performance.measuring import measure as measure_champion
from tests.support.feedback_installation import FeedbackInstallation, figures, label_case
from tests.support.monitor_installation import arrived
from tests.support.stored_rows import CREDITCARD, Database, new_id, run, waits_for_a_lock
from tests.support.waiting import eventually

HOUR = timedelta(hours=1)
CSV = "transaction_id,label,reported_at\n"


@pytest.fixture
def feedback(database: Database) -> Iterator[FeedbackInstallation]:
    installation = FeedbackInstallation(database)
    # Predictions are searched at once, and none but the flagged ones become cases.
    installation.with_opening(settle=timedelta(microseconds=1), sampling_share=0.0)
    yield installation


def decide(feedback: FeedbackInstallation, scores: list[float], prefix: str = "d") -> list[str]:
    """Decisions of an hour ago: from 0.5 on they are reviewed, from 0.9 on blocked."""
    rows = arrived(len(scores), prefix=prefix, event_time=datetime.now(UTC) - HOUR)
    feedback.monitor.decide(rows, scores=np.array(scores))
    return list(rows.ids)


def test_flagged_decisions_become_cases_once(feedback: FeedbackInstallation) -> None:
    reviewed, approved, blocked = decide(feedback, [0.6, 0.1, 0.95])
    result = feedback.do("pending")
    assert result["opened"] == 2
    assert feedback.cases() == [(reviewed, "flagged", "open"), (blocked, "flagged", "open")]
    again = feedback.do("pending")
    assert (again["opened"], again["pending"]) == (0, {"flagged": again["pending"]["flagged"]})
    assert again["pending"]["flagged"]["open"] == 2
    assert (approved, "flagged", "open") not in feedback.cases()


def test_what_was_left_behind_is_returned_and_what_is_late_counted(feedback: FeedbackInstallation) -> None:
    one, _ = decide(feedback, [0.6, 0.95])
    feedback.do("pending")
    feedback.rows(
        "UPDATE cases SET state = 'assigned', assignee = 'ann', locked_until = now() - interval '1 s',"
        " due_at = now() - interval '1 h' WHERE transaction_id = %s RETURNING 1",
        one,
    )
    result = feedback.do("pending")
    assert (result["returned"], result["breached"]) == (1, 1)
    assert result["pending"]["flagged"]["assigned"] == 0
    assert feedback.rows("SELECT kind, details->>'assignee' FROM case_events WHERE kind = 'released'") == [
        ("released", "ann")
    ]
    # What is held until it is handed over stays.
    feedback.rows(
        "UPDATE cases SET state = 'assigned', assignee = 'ann', locked_until = NULL RETURNING transaction_id"
    )
    assert feedback.do("pending")["returned"] == 0


def test_each_report_is_collected_by_one_run_and_a_repeated_run_says_the_same(
    feedback: FeedbackInstallation,
) -> None:
    names = decide(feedback, [0.1, 0.6, 0.6, 0.95])
    feedback.report({names[0]: 1}, "chargeback")
    feedback.report({names[1]: 1, names[2]: 0}, "analyst", "ann")
    feedback.report({names[2]: 0}, "random_audit", "bo")
    feedback.report(dict.fromkeys(names, 0), "simulator")
    first = feedback.do("collect", "monday")
    assert (first["reports"], first["transactions"], first["people"], first["since"]) == (4, 3, 2, None)
    assert first["sources"] == {
        "analyst": {"reports": 2, "frauds": 1},
        "chargeback": {"reports": 1, "frauds": 1},
        "random_audit": {"reports": 1, "frauds": 0},
    }
    feedback.report({names[3]: 1}, "analyst", "ann")
    assert feedback.do("collect", "monday") == first
    second = feedback.do("collect", "tuesday")
    assert (second["reports"], second["sources"]) == (1, {"analyst": {"reports": 1, "frauds": 1}})
    assert second["since"] is not None
    assert feedback.do("collect", "wednesday")["reports"] == 0


def test_a_report_whose_transaction_takes_long_is_not_passed_over(feedback: FeedbackInstallation) -> None:
    """By a time that is kept it would be older than what was collected meanwhile."""
    names = decide(feedback, [0.1, 0.1])
    with closing(connect(feedback.database.url("feedback"), "slow")) as slow:
        store_labels(slow.cursor(), [LabelEvent(new_id(), names[0], 1, "chargeback", datetime.now(UTC))])
        assert feedback.do("collect", "first")["reports"] == 0
        slow.commit()
    assert feedback.do("collect", "second")["reports"] == 1


def test_two_processes_of_one_run_collect_once(feedback: FeedbackInstallation) -> None:
    names = decide(feedback, [0.1])
    feedback.report({names[0]: 1}, "chargeback")
    url, done = feedback.database.url("feedback"), []
    with closing(connect(url, "first")) as first, first.cursor() as cursor:
        cursor.execute(
            "INSERT INTO feedback_runs (run_id, collected) VALUES ('one', '{\"reports\": 7,"
            ' "transactions": 7, "people": 0, "since": null, "sources": {}}\')'
        )
        other = Thread(target=lambda: done.append(feedback.do("collect", "one")))
        other.start()
        assert eventually(lambda: waits_for_a_lock(feedback.database.url("admin"), "fraud_feedback"))
        first.commit()
        other.join(20)
    assert [one["reports"] for one in done] == [7]


def test_the_truth_follows_from_what_was_collected(feedback: FeedbackInstallation) -> None:
    names = decide(feedback, [0.1, 0.6, 0.95])
    feedback.report({names[0]: 1}, "analyst", "ann")
    # A writer that did not apply its labels; and silence, which nobody was there to notice.
    feedback.rows("UPDATE transactions SET class = NULL, class_implied = NULL RETURNING 1")
    with pytest.raises(LastingFailure, match="has not collected yet: run collect"):
        feedback.do("apply", "first")
    feedback.do("collect", "first")
    result = feedback.do("apply", "first")
    assert (result["transactions"], result["classes_changed"]) == (1, 1)
    assert result["classes_refreshed"] == 2
    classes = "SELECT class, class_implied FROM transactions ORDER BY transaction_id"
    assert feedback.rows(classes) == [(1, False), (0, True), (None, False)]
    again = feedback.do("apply", "first")
    assert again | {"seconds": 0} == result | {"seconds": 0, "classes_refreshed": 0}


def test_contradicting_labels_become_a_case_that_a_lead_ends(feedback: FeedbackInstallation) -> None:
    [name] = decide(feedback, [0.6])
    feedback.do("pending")
    feedback.decide_case(name, 0, "ann")
    assert feedback.cases() == [(name, "flagged", "closed")]
    feedback.report({name: 1}, "chargeback")
    first = feedback.collection("first")
    assert first["pending"]["disputed"] == 1
    assert first["apply"]["disputes_open"] == 1
    assert feedback.cases() == [(name, "disputed", "open")]
    assert figures(first["metrics"], "disputes_open")[""]["value"] == 1
    feedback.decide_case(name, 1, "lea")
    second = feedback.collection("second")
    assert (second["pending"]["disputed"], second["apply"]["disputes_open"]) == (0, 0)
    assert feedback.cases() == [(name, "disputed", "closed")]
    kinds = feedback.rows("SELECT kind, actor FROM case_events ORDER BY event_id")
    assert kinds == [("opened", "system"), ("reopened", "system")]


def test_voices_that_agree_again_close_their_case(feedback: FeedbackInstallation) -> None:
    [name] = decide(feedback, [0.1])
    feedback.report({name: 1}, "analyst", "ann")
    feedback.report({name: 0}, "analyst", "bo")
    assert feedback.do("pending")["disputed"] == 1
    feedback.report({name: 1}, "analyst", "bo", ago=timedelta(0))
    feedback.do("collect")
    assert feedback.do("apply")["cases_settled"] == 1
    assert feedback.cases("state, decision, decided_by") == [("closed", 1, None)]
    # What a person opens again stays open.
    feedback.rows(
        "WITH again AS (UPDATE cases SET state = 'open', closed_at = NULL, decision = NULL RETURNING case_id)"
        " INSERT INTO case_events (case_id, actor, kind)"
        " SELECT case_id, 'lea', 'reopened' FROM again RETURNING 1"
    )
    assert feedback.do("pending")["settled"] == 0
    assert feedback.cases("state") == [("open",)]


def test_recall_on_all_traffic_is_estimated_from_the_random_sample(feedback: FeedbackInstallation) -> None:
    rows, missed, reported = 240, 40, 10
    flagged = decide(feedback, [0.95] * 60, "flagged")
    approved = decide(feedback, [0.1] * rows, "approved")
    feedback.report(dict.fromkeys(flagged[:50], 1) | dict.fromkeys(flagged[50:], 0), "analyst", "ann")
    # The bank reports a part of the frauds that were approved; of the rest only the sample tells.
    feedback.report(dict.fromkeys(approved[:reported], 1), "chargeback", ago=timedelta(days=8))
    feedback.with_opening(sampling_share=0.5)
    for _ in range(3):
        feedback.do("pending")
    sampled = feedback.cases()
    assert {origin for _, origin, _ in sampled} == {"sampled"}
    assert 80 < len(sampled) < 160
    truth = {name: int(number < missed) for number, name in enumerate(approved)}
    unreviewed = feedback.do("metrics", "before")
    assert figures(unreviewed, "recall_all_traffic")[""]["value"] is None
    assert "is not known: 0 of" in unreviewed["text"]
    with closing(connect(feedback.database.url("owner"), "test")) as connection:
        for name, _, _ in sampled[::2]:
            label_case(connection, name, truth[name], "ann")
    # The API labels as an analyst, whatever the case is.
    feedback.report({name: truth[name] for name, _, _ in sampled[1::2]}, "analyst", "ann", ago=timedelta(0))
    result = feedback.do("metrics", "after")
    recall = figures(result, "recall_all_traffic")[""]
    found = sum(truth[name] for name, _, _ in sampled if name not in approved[:reported])
    expected = 50 / (50 + reported + found / len(sampled) * rows)
    assert recall["value"] == pytest.approx(expected)
    assert recall["low"] < 50 / (50 + missed) < recall["high"]
    assert recall["rows"] == len(sampled)
    coverage = figures(result, "label_coverage")
    assert coverage["flagged"]["value"] == coverage["sampled"]["value"] == 1
    assert coverage["approved"]["value"] < 1
    assert figures(result, "review_precision")["sampled"]["rows"] == len(sampled[::2])
    assert figures(result, "hours_to_label")["sampled"]["value"] > 0
    # Repeated, the figures of a run are replaced.
    stored = "SELECT count(*) FROM feedback_metrics WHERE run_id = 'after'"
    [(count,)] = feedback.rows(stored)
    feedback.do("metrics", "after")
    assert feedback.rows(stored) == [(count,)]


def test_the_same_person_twice_is_no_agreement(feedback: FeedbackInstallation) -> None:
    alone, agreed, apart = decide(feedback, [0.1, 0.1, 0.1])
    feedback.report({alone: 1}, "analyst", "ann", ago=timedelta(minutes=5))
    feedback.report({alone: 1, agreed: 1, apart: 1}, "analyst", "ann")
    feedback.report({agreed: 1, apart: 0}, "analyst", "bo")
    agreement = figures(feedback.do("metrics"), "agreement")[""]
    assert (agreement["value"], agreement["rows"]) == (0.5, 2)


def write(folder: Path, text: str) -> Path:
    file = folder / "chargebacks.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_of_chargebacks_is_imported_once(feedback: FeedbackInstallation, tmp_path: Path) -> None:
    names = decide(feedback, [0.1, 0.1])
    file = write(tmp_path, f"{CSV}{names[0]},1,2026-01-01T00:00:00Z\nunknown-yet,1,2026-01-01T00:00:00Z\n")
    first = feedback.do("import-chargebacks", file=file)
    assert (first["imported"], first["known"], first["frauds"]) == (2, 0, 2)
    again = feedback.do("import-chargebacks", file=file)
    assert (again["imported"], again["known"]) == (0, 2)
    assert feedback.rows("SELECT source, count(*) FROM labels GROUP BY 1") == [("chargeback", 2)]
    assert feedback.rows("SELECT class FROM transactions WHERE transaction_id = %s", names[0]) == [(1,)]
    assert feedback.rows("SELECT count(*) FROM audit_log WHERE action = 'labels.stored'") == [(1,)]


def test_of_a_wrong_file_nothing_is_imported(feedback: FeedbackInstallation, tmp_path: Path) -> None:
    file = write(tmp_path, f"{CSV}a,1,2026-01-01T00:00:00Z\nb,7,2026-01-01T00:00:00Z\nc,1,soon\n")
    with pytest.raises(
        RefusedFailure, match=r"Nothing was imported: line 3: label: .*2 lines are wrong"
    ) as raised:
        feedback.do("import-chargebacks", file=file)
    assert raised.value.result["errors"] == [
        "line 3: label: must be 1 (fraud) or 0 (legitimate).",
        "line 4: reported_at: must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z.",
    ]
    assert feedback.rows("SELECT count(*) FROM labels") == [(0,)]


def test_the_command_reads_a_file_from_standard_input(feedback: FeedbackInstallation, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    environment = {
        "DATABASE_URL": feedback.database.url("feedback"),
        "APP_ENV": "testing",
        "RESULT_PATH": str(result),
        "PATH": "/usr/bin:/bin",
    }

    def imported(text: str) -> tuple[int, str, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "fraud_feedback", "import-chargebacks", "-"],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()[-1], json.loads(result.read_text())

    code, _, document = imported(f"{CSV}a,1,2026-01-01T00:00:00Z\n")
    assert (code, document["imported"]) == (0, 1)
    code, last_line, document = imported(f"{CSV}a,no,2026-01-01T00:00:00Z\n")
    assert (code, document["failure"], document["wrong_lines"]) == (1, "refused", 1)
    assert last_line == "failed: Nothing was imported: line 2: label: must be 1 (fraud) or 0 (legitimate)."


def test_housekeeping_removes_what_was_kept_long_enough(feedback: FeedbackInstallation) -> None:
    names = decide(feedback, [0.1, 0.1])
    feedback.report({names[0]: 1}, "chargeback")
    feedback.do("collect")
    feedback.report({names[1]: 1}, "chargeback")
    with closing(connect(feedback.database.url("streaming"), "test")) as connection, connection:
        letters = [DeadLetter("t", 0, offset, None, b"x", 1, "not_json") for offset in range(7)]
        store_dead_letters(connection.cursor(), letters, "id")
    owner = feedback.database.url("owner")
    run(owner, "UPDATE dead_letters SET created_at = now() - interval '91 days' WHERE record_offset < 5")
    run(owner, "UPDATE feedback_reports SET noted_at = now() - interval '91 days'")
    run(
        owner,
        "INSERT INTO people (username, display_name, password_hash, role)"
        " VALUES ('ann', 'Ann', 'x', 'analyst')",
    )
    for number, ago in enumerate(("8 days", "1 hour", "-1 hour")):
        run(
            owner,
            "INSERT INTO sessions (session_hash, username, csrf_token, expires_at)"
            " VALUES (%s, 'ann', 'x', now() - %s::interval)",
            bytes([number]),
            ago,
        )
    feedback.with_parameters("feedback", batch=2)
    result = feedback.do("housekeeping")
    assert result["removed"] == {"dead_letters": 5, "sessions": 1, "collected_reports": 1}
    assert feedback.do("housekeeping")["removed"] == dict.fromkeys(result["removed"], 0)
    # What no run has collected stays, whatever its age; the ledger is not touched.
    assert feedback.do("collect", "next")["reports"] == 1
    assert feedback.rows("SELECT count(*) FROM labels") == [(2,)]


def test_a_wrong_value_costs_no_fresh_dead_letter(feedback: FeedbackInstallation) -> None:
    with closing(connect(feedback.database.url("streaming"), "test")) as connection, connection:
        store_dead_letters(connection.cursor(), [DeadLetter("t", 0, 1, None, b"x", 1, "not_json")], "id")
    url = feedback.database.url("feedback")
    assert run(url, "SELECT forget_dead_letters(now() + interval '1 year', 100)") == [(0,)]


def test_labels_are_collected_while_analysts_work(feedback: FeedbackInstallation) -> None:
    """No deadlock, nothing lost, nothing twice."""
    names = decide(feedback, [0.1] * 30)

    def work(person: str, offset: int) -> None:
        for name in names[offset::2]:
            feedback.report({name: 1}, "analyst", person)

    people = [Thread(target=work, args=one) for one in (("ann", 0), ("bo", 1))]
    for person in people:
        person.start()
    collected, number = 0, 0
    while any(person.is_alive() for person in people):
        number += 1
        collected += feedback.do("collect", f"run-{number}")["reports"]
        feedback.do("apply", f"run-{number}")
    collected += feedback.do("collect", "last")["reports"]
    assert collected == len(names)
    assert feedback.rows("SELECT DISTINCT class FROM transactions") == [(1,)]


def test_the_loop_closes(feedback: FeedbackInstallation) -> None:
    """Flagged, made a case, labelled, collected: what is measured and what is trained with contains it."""
    names = decide(feedback, [0.95] * 3 + [0.1] * 5)

    def measured() -> tuple[int, int, int]:
        """Labels, frauds and what is left out, as 06_model_performance_tracking reads them."""
        with feedback.monitor.context() as context, closing(context.database()) as connection:
            champion = context.champion()
            assert champion is not None
            found = measure_champion(context, connection, champion, database_clock(connection))
        counts = found.figures.counts
        return counts.total, counts.tp + counts.fn, found.left_out_blocked

    def examples() -> dict[str, tuple[int, str]]:
        """What 01_training_pipeline loads."""
        with closing(connect(feedback.database.url("trainer"), "test")) as connection:
            table = read_examples(connection, CREDITCARD, database_clock(connection))
        columns = (table.column(name).to_pylist() for name in ("transaction_id", LABEL, LABEL_SOURCE))
        return {name: (label, source) for name, label, source in zip(*columns, strict=True)}

    feedback.collection("before")
    # Silence proves nothing about what was blocked.
    assert measured() == (5, 0, 3)
    assert names[0] not in examples()
    feedback.decide_case(names[0], 1, "ann")
    feedback.decide_case(names[1], 0, "ann")
    after = feedback.collection("after")
    assert after["collect"]["sources"] == {"analyst": {"reports": 2, "frauds": 1}}
    assert measured() == (7, 1, 1)
    assert examples()[names[0]] == (1, "analyst")
    assert examples()[names[1]] == (0, "analyst")
    precision = figures(after["metrics"], "review_precision")["flagged"]
    assert (precision["value"], precision["rows"]) == (0.5, 2)
    # A second analyst disagrees: neither uses it until a lead has decided.
    feedback.report({names[0]: 0}, "analyst", "bo")
    feedback.collection("disputed")
    assert measured() == (6, 0, 2)
    assert names[0] not in examples()
    feedback.decide_case(names[0], 1, "lea")
    feedback.collection("settled")
    assert measured() == (7, 1, 1)
    assert examples()[names[0]] == (1, "adjudication")
