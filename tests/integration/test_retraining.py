"""The decision to train, on a real database and registry, and what becomes of triggers when runs end."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from config.job_results.trainer import DecisionResult
from config.settings import ObjectStoreSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.model_versions import last_training
from fraud_adapters.postgres.retraining_evidence import count_new_labels, labelled_predictions
from fraud_adapters.postgres.scored_transactions import store_scored, store_transactions
from fraud_core.batch import Batch
from fraud_core.labels import LabelEvent
from fraud_core.metrics import Confusion
from fraud_trainer.job import main
from tests.integration.training_installation import Installation, wire_rows
from tests.integration.training_job import TrainerJob, small_configuration, small_installation
from tests.support.stored_rows import Database, predictions, run, waits_for_a_lock
from tests.support.typed_results import mismatches
from tests.support.waiting import eventually

FIRST = ["--run-id", "first"]
LATEST = "SELECT * FROM retraining_triggers ORDER BY triggered_at DESC LIMIT 5"


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[Installation]:
    with small_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


def decide(*options: str) -> DecisionResult:
    result = main(["decide", *(options or FIRST)])
    assert list(mismatches(DecisionResult, json.loads(json.dumps(result)))) == []
    return cast(DecisionResult, result)


def open_trigger(installation: Installation, reason: str = "PSI 0.7 on amount") -> int:
    """As a monitor would open it."""
    statement = (
        "INSERT INTO retraining_triggers (source, severity, reason) VALUES ('drift', 'high', %s) RETURNING id"
    )
    [(number,)] = run(installation.database.url("owner"), statement, reason)
    return int(number)


def states(installation: Installation) -> list[tuple[str, str, str | None]]:
    """Source, state and outcome of each row, oldest first."""
    statement = "SELECT source, state, details->>'outcome' FROM retraining_triggers ORDER BY id"
    return [(row[0], row[1], row[2]) for row in run(installation.database.url("owner"), statement)]


def report(names: list[str], label: int, at: datetime) -> list[LabelEvent]:
    return [LabelEvent(str(uuid.uuid4()), name, label, "analyst", at) for name in names]


@contextmanager
def session(installation: Installation, role: str) -> Iterator[Any]:
    """A cursor of a new connection of the role, in one transaction."""
    url = installation.database.url(role)
    with closing(connect(url, "test")) as connection, connection, connection.cursor() as cursor:
        yield cursor


def kill_while_it_waits(installation: Installation, table: str, verb: str) -> None:
    """Kill the verb while it waits for the locked table."""
    admin = installation.database.url("admin")
    with session(installation, "admin") as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        with TrainerJob(verb, *FIRST) as job:
            assert eventually(lambda: waits_for_a_lock(admin, "fraud_trainer"), 120)
            assert job.stop(signal.SIGKILL) == -signal.SIGKILL


def store_recent(
    installation: Installation, rows: Batch, flagged: list[bool], version: str, decision: str = "approve"
) -> None:
    """Transactions that the version has decided, stored now."""
    predicted = replace(
        predictions(installation.contract, rows, decision, [0.9 if one else 0.1 for one in flagged]),
        feature_vectors=np.zeros((len(rows), len(installation.contract.feature_names)), "f4"),
        model_version=version,
    )
    with session(installation, "streaming") as cursor:
        store_scored(cursor, installation.contract, rows, predicted, "bank")


def test_without_a_champion_it_trains_and_afterwards_it_does_not(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decide()
    assert (first["retrain"], first["champion"], first["last_training"]) == (True, None, None)
    assert first["reason"] == "Retrain: there is no champion."
    assert first["new_labels"] == 3000
    assert states(installation) == [("decision", "running", None)]
    # A retry before the run has gone on: the same decision, no second row.
    assert decide() == first
    assert states(installation) == [("decision", "running", None)]

    figures = main(["run", *FIRST])["figures"]
    assert (figures["version"], figures["gate_passed"], figures["aliases"]) == ("1", True, "champion")
    assert figures["recall"] > 0.9
    assert states(installation) == [("decision", "done", "version 1, which passed its gate")]

    second = decide("--run-id", "second")
    assert (second["retrain"], second["champion"], second["new_labels"]) == (False, "1", 0)
    assert "the last training finished 0" in second["reason"]
    assert "0 new transactions have a known label, fewer than 10000" in second["reason"]
    forced = decide("--run-id", "third", "--force")
    assert (forced["retrain"], forced["reason"]) == (True, "Retrain: it was asked for.")
    _check_what_a_person_sees(installation, second)

    lenient = small_configuration(
        tmp_path / "lenient",
        training={
            "rounds": 60,
            "threads": 1,
            "retrain": {
                "min_interval": "PT0S",
                "min_new_labels": 0,
                "min_labels_for_performance": 1,
                "performance_labels": 10,
                "run_limit": "PT2H",
            },
        },
    )
    monkeypatch.setenv("FRAUD_CONFIG_DIR", str(lenient))
    assert decide("--run-id", "fourth")["retrain"] is True


def _check_what_a_person_sees(installation: Installation, declined: DecisionResult) -> None:
    """The specified query, by the role that people have."""
    with session(installation, "readonly") as cursor:
        cursor.execute(LATEST)
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert [(row["source"], row["state"], row["run_id"]) for row in rows] == [
        ("decision", "running", "third"),
        ("decision", "declined", "second"),
        ("decision", "done", "first"),
    ]
    assert rows[1]["reason"] == declined["reason"]
    assert rows[1]["handled_at"] is not None
    details = rows[1]["details"]
    assert details["rule"]["min_new_labels"] == 10_000
    assert (details["champion"], len(details["against"]), len(details["in_favour"])) == ("1", 2, 1)


def test_a_trigger_is_taken_by_one_run_and_done_when_the_run_has_registered(
    installation: Installation,
) -> None:
    number = open_trigger(installation)
    first = decide()
    assert first["triggers"] == [number]
    assert first["reason"].startswith("Retrain: open trigger: drift, high: PSI 0.7 on amount; ")
    assert decide("--run-id", "second")["triggers"] == [], "the first run deals with it"
    main(["run", *FIRST])
    done = "version 1, which passed its gate"
    assert states(installation) == [
        ("drift", "done", done),
        ("decision", "done", done),
        ("decision", "running", None),
    ]


def test_a_run_that_fails_opens_its_trigger_again_and_a_retry_closes_it(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_trigger(installation)
    decide()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(JobFailed):
            main(["run", *FIRST])
    (trigger, decision) = states(installation)
    assert trigger[:2] == ("drift", "open")
    assert decision[:2] == ("decision", "withdrawn")
    assert "MLflow at http://127.0.0.1:9 does not answer" in str(decision[2])
    main(["run", *FIRST])
    assert [row[1] for row in states(installation)] == ["done", "done"]


def test_a_model_that_fails_its_gate_deals_with_the_trigger(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same data would be trained on every night."""
    bounds = {"min_recall": 1.0, "max_fpr": 0.0, "min_f1": 1.0, "min_frauds": 100}
    strict = {"gates": {"specification": bounds}}
    monkeypatch.setenv("FRAUD_CONFIG_DIR", str(small_configuration(tmp_path / "strict", **strict)))
    open_trigger(installation)
    decide()
    with pytest.raises(JobFailed) as failed:
        main(["run", *FIRST])
    assert failed.value.result["figures"]["gate_passed"] is False
    assert {row[1:] for row in states(installation)} == {("done", "version 1, which failed its gate")}


def test_a_run_that_was_killed_does_not_hold_its_trigger_for_ever(installation: Installation) -> None:
    open_trigger(installation)
    decide()
    owner = installation.database.url("owner")
    kill_while_it_waits(installation, "transactions", "load")
    assert [row[1] for row in states(installation)] == ["running", "running"]
    assert decide("--run-id", "soon after")["triggers"] == []
    run(
        owner,
        "UPDATE retraining_triggers SET taken_at = taken_at - interval '3 hours' WHERE run_id = 'first'",
    )
    later = decide("--run-id", "later")
    assert len(later["triggers"]) == 1
    rows = states(installation)
    assert rows[0][:2] == ("drift", "running")
    assert rows[1] == ("decision", "withdrawn", "the run did not end in time")


def test_a_decision_that_is_killed_leaves_nothing_half_done(installation: Installation) -> None:
    open_trigger(installation)
    kill_while_it_waits(installation, "retraining_triggers", "decide")
    assert states(installation) == [("drift", "open", None)]
    assert len(decide()["triggers"]) == 1


def test_labels_are_new_if_they_were_not_examples_at_the_last_training(installation: Installation) -> None:
    """Young then and silent now, reported since, stored since; not: reported already, too young, blocked."""
    now = datetime.now(UTC)
    before = now - timedelta(hours=1)
    contract = installation.contract

    def rows(name: str, at: datetime, count: int = 1) -> Batch:
        return replace(wire_rows(count, start=at)[0], ids=[f"{name}{number}" for number in range(count)])

    old_then = rows("late", now - timedelta(days=20), 2)
    with closing(connect(installation.database.url("streaming"), "test")) as connection:
        with connection, connection.cursor() as cursor:
            for stored in (
                rows("silent", now - timedelta(minutes=70), 3),
                rows("reported", now - timedelta(minutes=5), 2),
                rows("young", now - timedelta(minutes=4), 2),
                old_then,
            ):
                store_transactions(cursor, contract, stored, "bank")
        with connection, connection.cursor() as cursor:
            store_labels(cursor, report(["reported0", "reported1"], 1, now - timedelta(minutes=1)))
            # Known before and reported again: no new transaction.
            store_labels(cursor, report(["w0"], 1, now - timedelta(minutes=1)))
    owner = installation.database.url("owner")
    run(owner, "UPDATE transactions SET ingestion_timestamp = %s WHERE transaction_id LIKE 'w%%'", before)
    run(
        owner,
        "UPDATE transactions SET ingestion_timestamp = %s WHERE source = 'bank' AND"
        " transaction_id ~ '^(silent|reported|young)'",
        before - timedelta(minutes=1),
    )
    with closing(connect(installation.database.url("trainer"), "test")) as connection:
        assert count_new_labels(connection, contract, now, before) == 3 + 2 + len(old_then)
        assert count_new_labels(connection, contract, now, None) == 3000 + 3 + 2 + len(old_then)
        assert count_new_labels(connection, contract, now, now - timedelta(seconds=1)) == len(old_then)


def test_the_champion_is_judged_by_its_own_deciding_predictions(installation: Installation) -> None:
    now = datetime.now(UTC)
    named = {"hit": (True, 1), "miss": (False, 1), "alarm": (True, 0), "pass": (False, 0)}
    start = now - timedelta(days=2)
    reports = []
    for kind, (flagged, label) in named.items():
        rows = replace(wire_rows(3, start=start)[0], ids=[f"{kind}{number}" for number in range(3)])
        store_recent(installation, rows, [flagged] * 3, "7")
        other = replace(rows, ids=[f"other-{name}" for name in rows.ids])
        store_recent(installation, other, [not flagged] * 3, "6")
        reports += report([*rows.ids, *other.ids], label, now - timedelta(hours=1))
    unknown = replace(wire_rows(2, start=start)[0], ids=["blocked0", "blocked1"])
    store_recent(installation, unknown, [True] * 2, "7", decision="block")
    with session(installation, "streaming") as cursor:
        store_labels(cursor, reports)
    with closing(connect(installation.database.url("trainer"), "test")) as connection:
        found = labelled_predictions(connection, installation.contract, "7", now, 1000)
        assert (found.counts, found.left_out_blocked) == (Confusion(tp=3, fp=3, tn=3, fn=3), 2)
        assert labelled_predictions(connection, installation.contract, "7", now, 4).counts.total == 4
        assert labelled_predictions(connection, installation.contract, "9", now, 1000).counts.total == 0


def test_only_a_version_trained_on_the_platforms_labels_is_the_last_training(
    installation: Installation,
) -> None:
    main(["run", *FIRST])
    name, owner = installation.contract.registered_model, installation.database.url("owner")
    run(
        owner,
        "INSERT INTO model_versions SELECT name, '99', mlflow_run_id, contract, digest, gate_policy,"
        " gate_passed, gate_outcome, metrics, threshold, block_threshold, data_from, data_to, now(), NULL"
        " FROM model_versions",
    )
    with session(installation, "trainer") as cursor:
        last = last_training(cursor, name)
    [(created, as_of)] = run(owner, "SELECT created_at, labels_as_of FROM model_versions WHERE version = '1'")
    assert last is not None
    assert (last.finished_at, last.labels_as_of) == (created, as_of)
    assert abs(as_of - created) < timedelta(minutes=1)
