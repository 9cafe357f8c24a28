"""The DAG of data quality on the real Airflow, with and without a failed check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from config import constants
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform, ensure_buckets
from tests.support.waiting import eventually

DAG: Final = "04_data_quality"
# The first test includes the start of all servers, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def watched(platform: AirflowPlatform) -> Iterator[AirflowPlatform]:
    """The platform once the stream has stored transactions."""
    ensure_buckets(platform.stack)
    assert eventually(lambda: platform.airflow.known(DAG), PATIENCE_S), platform.airflow.import_errors()
    for dag_id in constants.DAGS_SUB_MINUTE:
        platform.airflow.pause(dag_id, paused=False)
        platform.run(dag_id)
    assert platform.rows("SELECT 1 FROM predictions LIMIT 1")
    yield platform


def reports(platform: AirflowPlatform, run_id: str) -> dict[str, Any]:
    rows = platform.rows("SELECT check_name, status FROM quality_reports WHERE run_id = %s", run_id)
    return {str(name): status for name, status in rows}


def test_a_failed_check_alerts_and_a_healthy_hour_resolves_it(watched: AirflowPlatform) -> None:
    watched.rows(
        "INSERT INTO dead_letters (topic, topic_id, partition, record_offset, payload_bytes, reason)"
        " VALUES (%s, 'test', 0, 1, 3, 'id_conflict') RETURNING id",
        watched.kafka.topic,
    )
    bad = watched.trigger(DAG).succeeded()
    assert bad.tasks == {
        "run_quality_checks": "success",
        "decide_alert": "success",
        "send_quality_alert": "success",
        "no_action": "skipped",
    }
    alert = watched.webhook.wait_for("Data quality: ")
    assert "[high]" in alert
    assert "conflicting_ids (high): 1 record had the id of a stored transaction" in alert
    assert reports(watched, bad.run_id)["conflicting_ids"] == "failed"

    watched.rows("DELETE FROM dead_letters WHERE topic_id = 'test' RETURNING 1")
    good = watched.trigger(DAG).succeeded()
    found = reports(watched, good.run_id)
    assert {name: status for name, status in found.items() if status == "failed"} == {}, json.dumps(found)
    assert good.tasks["no_action"] == "success"
    assert good.tasks["send_quality_alert"] == "skipped"
    assert (found["schema"], found["completeness"], found["pipeline_api"]) == ("passed",) * 3
    assert watched.webhook.wait_for("[resolved] Data quality: ")
