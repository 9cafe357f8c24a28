"""An overview of test databases, and something for it to show."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from fraud_adapters.kafka import ensure_topics
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_embedded.overview.snapshot import Snapshots, Sources
from fraud_embedded.servers.airflow_api import AirflowApi
from tests.support.release_history import store_releases
from tests.support.stored_rows import CREDITCARD, Database, batch, predictions, run


class NoAirflow:
    """An address where nothing listens."""

    url = "http://127.0.0.1:9"
    password = "none"


def snapshots(database: Database, bootstrap: str, topic: str) -> Snapshots:
    """What the page shows of this database and topic; MLflow is said to be down, and no Airflow answers."""
    ensure_topics([bootstrap], [topic], 1)
    parts = dict.fromkeys(("postgres", "broker", "api"), lambda: True) | {"mlflow": lambda: False}
    return Snapshots(
        Sources(
            database_url=database.url("readonly"),
            bootstrap=bootstrap,
            topic=topic,
            registered_model="fraud-creditcard",
            airflow=AirflowApi(NoAirflow(), 1),
            dags=("00_realtime_streaming",),
            parts=parts,
        )
    )


def store_findings(database: Database) -> None:
    """Ten decisions made now, what monitoring found, a release in traffic and one that was rolled back."""
    rows = replace(batch(10, prefix="overview"), event_times=[datetime.now(UTC)] * 10)
    decided = replace(predictions(CREDITCARD, rows), decisions=["block"] * 2 + ["approve"] * 8)
    with closing(connect(database.url("api"), "test")) as connection, connection:
        store_scored(connection.cursor(), CREDITCARD, rows, decided, "api")
    owner = database.url("owner")
    for hours, severity, psi in ((2, "none", 0.01), (1, "high", 0.7)):
        run(
            owner,
            "INSERT INTO drift_metrics (detected_at, contract, kind, feature, metric, value, severity)"
            " VALUES (now() - make_interval(hours => %s), 'creditcard/1', 'data', 'amount', 'psi', %s, %s)",
            hours,
            psi,
            severity,
        )
    run(
        owner,
        "INSERT INTO performance_metrics (contract, metric, value, labels)"
        " VALUES ('creditcard/1', 'recall', 0.97, 500)",
    )
    for status in ("passed", "failed"):
        run(
            owner,
            "INSERT INTO quality_reports (contract, check_name, status, checked_at)"
            " VALUES ('creditcard/1', 'freshness', %s, clock_timestamp())",
            status,
        )
    store_releases(database)
