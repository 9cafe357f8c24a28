"""What each role must not do, and values that no role can store."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from psycopg2 import errors

from config import constants
from tests.support.stored_rows import Database, new_id, run

SECRETS = {"clients", "signing_keys", "revoked_tokens"}
PEOPLE = {"people", "sessions"}
POSITIONS = {"stream_offsets", "stream_stalls"}
RELEASES = {"deployments", "deployment_events", "release_counts"}
# What each service may write; reading is checked below, everything not listed must be refused.
MAY_INSERT = {
    "producer": {"transactions", "labels", "simulated_labels", "simulations", "simulated_drift"},
    "streaming": {"transactions", "predictions", "labels", "dead_letters", "alert_outbox", *POSITIONS},
    "api": {"transactions", "predictions", "shadow_predictions", "alert_outbox", *SECRETS, *RELEASES},
    "trainer": {"model_versions", "retraining_triggers"},
    "batch": set[str](),
    "rollout": set[str](),
    "feedback": {"labels", "feedback_runs", "feedback_metrics"},
    "audit": {"labels", "cases", "case_events", *PEOPLE},
    "monitor": {
        *("drift_metrics", "retraining_triggers", "quality_reports", "performance_metrics"),
        "performance_estimates",
    },
    "readonly": set[str](),
    "watch": set[str](),  # it records by functions
    "grafana": set[str](),
}
MAY_UPDATE = {
    "producer": {"simulated_labels", "simulations"},
    # Of a dead letter, only when it was put back.
    "streaming": {"alert_outbox", "dead_letters", *POSITIONS},
    # What happened to a release is only added to.
    "api": {"clients", "signing_keys", "deployments", "release_counts"},
    "trainer": {"retraining_triggers"},
    "batch": set[str](),
    "rollout": set[str](),
    # Of a report, which run collected it; cases it changes by functions.
    "feedback": {"feedback_reports", "feedback_runs", "feedback_metrics"},
    # What happened to a case is only added to, as what was reported.
    "audit": {"cases", *PEOPLE},
    # Of an estimate, what it was and what became of it.
    "monitor": {"drift_metrics", "performance_estimates", "quality_reports", "performance_metrics"},
    "readonly": set[str](),
    "watch": set[str](),  # it records by functions
    "grafana": set[str](),
}
MAY_DELETE = {"api": {"revoked_tokens"}, "audit": {"sessions"}, "streaming": {"alert_outbox"}}
MAY_READ = {
    "producer": {
        *("transactions", "labels", "label_sources", "simulated_labels", "simulations"),
        "simulated_drift",
    },
    "streaming": MAY_INSERT["streaming"] | {"label_sources"},
    "api": {
        *(MAY_INSERT["api"] - {"alert_outbox"}),
        *("model_versions", "retraining_triggers", "stream_offsets", "audit_log"),
    },
    "trainer": {
        *("transactions", "predictions", "labels", "label_sources", "simulations"),
        *("model_versions", "retraining_triggers", "label_disputes"),
    },
    "batch": {"transactions", "predictions", "model_versions"},
    "rollout": {
        *("transactions", "predictions", "labels", "label_sources", "label_disputes", "model_versions"),
    },
    "feedback": {
        *("transactions", "predictions", "labels", "label_sources", "label_disputes", "cases"),
        *("case_scan", "feedback_reports", "feedback_runs", "feedback_metrics"),
    },
    "audit": {
        *("transactions", "predictions", "labels", "label_sources", "alerts"),
        *("deployments", "deployment_events", "cases", "case_events", "decision_hours", "summarised_hours"),
        *PEOPLE,
    },
    "monitor": {
        *("transactions", "predictions", "labels", "label_sources", "stream_offsets", "dead_letters"),
        *("model_versions", "retraining_triggers", "drift_metrics", "quality_reports", "performance_metrics"),
        *("airflow_task_metrics", "performance_estimates", "label_disputes"),
    },
    "watch": set[str](),
    "grafana": {
        *("drift_metrics", "quality_reports", "performance_metrics", "performance_estimates"),
        *("retraining_triggers", "airflow_task_metrics", "alerts", "model_versions", "feedback_metrics"),
        *RELEASES,
    },
}
_BATCH = "text, text, text[], timestamptz[], numeric[], text[], text[], text[], integer[]"
MERGE_TRANSACTIONS = f"merge_transactions({_BATCH})"
_PREDICTED = (
    "double precision[], boolean[], text[], text, integer, real[], text[],"
    " timestamptz, text, text, text, boolean, text, text"
)
STORE_PREDICTIONS = f"store_predictions(text[], integer[], text[], integer[], integer[], {_PREDICTED})"
STORE_SCORED = f"store_scored({_BATCH}, {_PREDICTED})"
OPEN_CASES = "open_cases(interval, interval, interval, double precision, interval, interval, integer)"
MAY_CALL = {
    "labels_as_of(timestamptz)": {"trainer", "monitor", "rollout", "feedback", "readonly"},
    "has_come(timestamptz)": {"trainer", "monitor", "rollout", "feedback", "readonly"},
    "apply_labels(text[])": {"producer", "streaming", "api", "feedback", "audit"},
    "summarise_decisions(integer, interval)": {"audit"},
    "apply_labels_to_new(text[])": {"producer", "streaming", "api"},
    MERGE_TRANSACTIONS: {"producer", "streaming", "api"},
    STORE_PREDICTIONS: {"streaming", "api"},
    STORE_SCORED: {"streaming", "api"},
    "set_classes(text[], timestamptz)": set[str](),
    "withdraw_silence(text[], timestamptz)": set[str](),
    "refresh_classes(integer)": {"streaming", "feedback"},
    "reclassify()": set[str](),
    "audit_append(text, text, text, jsonb)": {"producer", "streaming", "api", "trainer", "feedback", "audit"},
    "record_alerts(jsonb)": {"watch"},
    "record_task_runs(jsonb)": {"watch"},
    "task_runs_recorded_until()": {"watch"},
    "forget_task_runs()": {"watch"},
    "audit_verify()": {"readonly"},
    "release_labels(bigint)": {"api"},
    "label_transaction(uuid, text, smallint, text, text)": {"api"},
    "audit_alias_taken_up(text, text, text, jsonb)": {"api"},
    "audit_hash(audit_log)": set[str](),
    "disputes_of(text[])": set[str](),
    "settle_disputes(text[])": set[str](),
    OPEN_CASES: {"feedback", "audit"},
    "sampling_position(text, text)": set[str](),
    "open_disputed_cases(interval, integer)": {"feedback", "audit"},
    "close_settled_cases(integer)": {"feedback"},
    "return_left_cases(integer)": {"feedback"},
    "forget_dead_letters(timestamptz, integer)": {"feedback"},
    "forget_sessions(timestamptz, integer)": {"feedback"},
    "forget_feedback_reports(timestamptz, integer)": {"feedback"},
}


def tables(database: Database) -> set[str]:
    """Every table the migrations make."""
    rows = run(database.url("owner"), "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows} - {"alembic_version"}


def insert_transaction(url: str, identifier: str, **columns: Any) -> None:
    values = {"event_time": "2026-01-01Z", "contract": "creditcard/1", "source": "test"} | columns
    names = ", ".join(("transaction_id", *values))
    marks = ", ".join(["%s"] * (len(values) + 1))
    run(url, f"INSERT INTO transactions ({names}) VALUES ({marks})", identifier, *values.values())


def test_every_service_has_the_rights_it_needs_and_no_other(database: Database) -> None:
    every = tables(database)
    allowed: dict[str, dict[str, set[str]]] = {
        "SELECT": MAY_READ | {"readonly": every - SECRETS - PEOPLE - {"audit_head"}},
        "INSERT": MAY_INSERT,
        "UPDATE": MAY_UPDATE,
        "DELETE": MAY_DELETE,
        "TRUNCATE": {},
        "REFERENCES": {},
        "TRIGGER": {},
    }
    for service in constants.SERVICE_ROLES:
        url = database.url(service)
        for right, by_service in allowed.items():
            # Any column counts: a right on one column is a right.
            kind = "table" if right in {"DELETE", "TRUNCATE", "TRIGGER"} else "any_column"
            query = f"SELECT t FROM unnest(%s) AS t WHERE has_{kind}_privilege(t, '{right}')"
            granted = {row[0] for row in run(url, query, sorted(every))}
            assert granted == by_service.get(service, set()), (service, right)
        for function, services in MAY_CALL.items():
            answer = run(url, "SELECT has_function_privilege(%s, 'EXECUTE')", function)
            assert answer == [(service in services,)], (service, function)


FORBIDDEN = (
    "UPDATE transactions SET class = 1",
    "DELETE FROM transactions",
    "UPDATE predictions SET decision = 'approve'",
    "UPDATE labels SET label = 0",
    "DELETE FROM labels",
    "TRUNCATE labels",
    "UPDATE dead_letters SET payload = NULL",
    "DELETE FROM dead_letters",
    "UPDATE label_sources SET precedence = 99",
    "INSERT INTO audit_log SELECT * FROM audit_log",
    "UPDATE audit_head SET entry_id = 0",
    "UPDATE alembic_version SET version_num = '0000'",
    "CREATE TABLE mine (x integer)",
    "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE transactions",
    "ALTER TABLE labels DISABLE TRIGGER ALL",
    "COPY transactions TO PROGRAM 'true'",
    "CREATE ROLE another",
)


def test_no_service_may(database: Database) -> None:
    become_the_owner = f"SET ROLE {urlsplit(database.url('owner')).username}"
    for service in constants.SERVICE_ROLES:
        for statement in (*FORBIDDEN, become_the_owner):
            with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
                run(database.url(service), statement)
                pytest.fail(f"{service} may {statement}")


def test_readonly_stays_read_only_when_it_asks_otherwise(database: Database) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        run(database.url("readonly"), "SET TRANSACTION READ WRITE; DELETE FROM transactions")
    with pytest.raises(errors.InsufficientPrivilege):
        run(database.url("readonly"), "SELECT secret_hash FROM clients")


def test_a_temporary_object_cannot_capture_a_function_of_the_owner(database: Database) -> None:
    owner, url = database.url("owner"), database.url("streaming")
    insert_transaction(owner, "real")
    trap = (
        "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()';"
        "CREATE TEMPORARY TABLE transactions (transaction_id text, class integer);"
        "SELECT apply_labels(ARRAY['real'])"
    )
    # Old and never reported: legitimate by silence, in the table meant.
    assert run(url, trap) == [(1,)]
    assert run(url, "SELECT class FROM transactions") == [(0,)]


def test_not_even_the_owner_changes_the_ledgers(database: Database) -> None:
    for table, column in (("labels", "label_id"), ("audit_log", "entry_id")):
        for change in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
                run(database.url("owner"), change)
                pytest.fail(change)


def test_a_transaction_refuses_what_is_no_value(database: Database) -> None:
    numbers = [
        (column, value)
        for column in ("time", "v1", "v28", "amount")
        for value in ("NaN", "Infinity", "-Infinity")
    ]
    others: list[tuple[str, Any]] = [
        ("class", 2),
        ("event_time", "infinity"),
        ("event_time", None),
        ("amount", "1e13"),
        ("card_id", "x" * 65),
        ("contract", None),
    ]
    for column, value in numbers + others:
        with pytest.raises((errors.IntegrityError, errors.DataError)):
            insert_transaction(database.url("streaming"), "bad", **{column: value})
            pytest.fail(f"{column} took {value}")
    assert run(database.url("streaming"), "SELECT FROM transactions") == []


def test_a_prediction_refuses_what_is_no_value(database: Database) -> None:
    url = database.url("api")
    insert_transaction(url, "good")
    values = {
        "transaction_id": "good",
        "fraud_score": "0.5",
        "is_fraud_predicted": "true",
        "model_version": "1",
        "score": "0.5",
        "decision": "review",
        "deciding": "true",
        "feature_vector": "{1,2}",
        "engine": "xgboost-3.2.0",
    }
    insert = f"INSERT INTO predictions ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})"
    for column, value in (
        ("score", "NaN"),
        ("score", "1.0000001"),
        ("score", "-0.1"),
        ("fraud_score", "NaN"),
        ("decision", "maybe"),
        ("feature_vector", "{1,-Infinity}"),
        ("transaction_id", "unknown"),
    ):
        with pytest.raises((errors.IntegrityError, errors.DataError)):
            run(url, insert, *(values | {"deciding": "false", column: value}).values())
            pytest.fail(f"{column} took {value}")
    run(url, insert, *values.values())
    with pytest.raises(errors.UniqueViolation):
        run(url, insert, *values.values())


def test_a_label_needs_a_known_source_and_is_never_implied(database: Database) -> None:
    insert = (
        "INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)"
        " VALUES (%s, 't', 1, %s, now(), now())"
    )
    run(database.url("streaming"), insert, new_id(), "analyst")
    for source, error in (("hearsay", errors.ForeignKeyViolation), ("implied", errors.CheckViolation)):
        with pytest.raises(error):
            run(database.url("streaming"), insert, new_id(), source)
