"""The DAG of the feedback collection on the real Airflow: each step, the cleaning up, and a second run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from config import constants
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_core.labels import LabelEvent
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, ensure_buckets
from tests.support.server_fixtures import bucket_settings
from tests.support.stored_rows import CREDITCARD, batch, new_id, predictions
from tests.support.waiting import eventually

DAG: Final = constants.DAG_FEEDBACK
STEPS: Final = (
    "fetch_pending_cases",
    "collect_investigator_feedback",
    "update_ground_truth_labels",
    "store_feedback_metrics",
    "replay_sample",
    "housekeeping",
    "remove_run_files",
)
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


def test_a_blocked_transaction_goes_through_the_loop(platform: AirflowPlatform, mlflow_uri: str) -> None:
    assert mlflow_uri
    ensure_buckets(platform.stack)
    bucket = ObjectStore(
        bucket_settings(platform.stack.objectstore, constants.BUCKET_RUNS), constants.BUCKET_RUNS
    )
    bucket.put_bytes("runs/feedback-test/young/rows.json", b"{}")
    assert eventually(lambda: platform.airflow.known(DAG), PATIENCE_S), platform.airflow.import_errors()
    now = datetime.now(UTC)
    made = batch(1, 5, "looped")
    rows = replace(made, event_times=[now - timedelta(minutes=5)])
    with closing(connect(platform.database.url("streaming"), "test")) as connection, connection:
        store_scored(
            connection.cursor(), CREDITCARD, rows, predictions(CREDITCARD, rows, "block", [0.99]), "test"
        )

    first = platform.trigger(DAG).succeeded()
    assert first.tasks == dict.fromkeys(STEPS, "success")
    assert platform.rows("SELECT origin, state FROM cases WHERE transaction_id = 'looped-0'") == [
        ("flagged", "open")
    ]
    with closing(connect(platform.database.url("feedback"), "test")) as connection, connection:
        store_labels(
            connection.cursor(),
            [LabelEvent(new_id(), "looped-0", 1, "analyst", datetime.now(UTC), "ann")],
            "ann",
        )

    second = platform.trigger(DAG).succeeded()
    assert second.tasks == dict.fromkeys(STEPS, "success")
    [(collected,)] = platform.rows("SELECT collected FROM feedback_runs WHERE run_id = %s", second.run_id)
    assert collected["sources"]["analyst"] == {"reports": 1, "frauds": 1}
    assert platform.rows("SELECT class FROM transactions WHERE transaction_id = 'looped-0'") == [(1,)]
    measured = {str(row[0]) for row in platform.rows("SELECT DISTINCT run_id FROM feedback_metrics")}
    assert {first.run_id, second.run_id} <= measured
    assert bucket.exists("runs/feedback-test/young/rows.json"), "a run in progress keeps its files"
    # Other tests count what this database holds; the ledger of labels keeps the report.
    of_it = "transaction_id = 'looped-0'"
    platform.rows(f"DELETE FROM case_events WHERE case_id IN (SELECT case_id FROM cases WHERE {of_it})")
    for table in ("cases", "alert_outbox", "predictions", "transactions"):
        platform.rows(f"DELETE FROM {table} WHERE {of_it}")
