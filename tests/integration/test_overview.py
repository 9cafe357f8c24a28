"""The overview's figures against real Postgres and Kafka, and what its page allows a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from config.settings import KafkaSettings
from fraud_adapters.kafka import ensure_topics
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_embedded.overview.app import create_app
from fraud_embedded.overview.snapshot import Snapshots, Sources
from fraud_embedded.servers.airflow_api import AirflowApi
from tests.support.stored_rows import CREDITCARD, Database, batch, predictions, run


class NoAirflow:
    """An address where nothing listens."""

    url = "http://127.0.0.1:9"
    password = "none"


class Client:
    """A browser of this machine."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def get(self, path: str, **headers: str) -> Response:
        async def exchange() -> Response:
            transport = ASGITransport(self._app)
            async with AsyncClient(transport=transport, base_url="http://127.0.0.1:8050") as client:
                return await client.get(path, headers=headers)

        return asyncio.run(exchange())


@pytest.fixture
def client(database: Database, topics: KafkaSettings) -> Iterator[Client]:
    ensure_topics(topics.bootstrap_servers, [topics.topic], 1)
    sources = Sources(
        database_url=database.url("readonly"),
        bootstrap=topics.kafka_bootstrap_servers,
        topic=topics.topic,
        registered_model="fraud-creditcard",
        airflow=AirflowApi(NoAirflow(), 1),
        dags=("00_realtime_streaming",),
        parts=dict.fromkeys(("postgres", "broker", "api"), lambda: True) | {"mlflow": lambda: False},
    )
    snapshots = Snapshots(sources)
    yield Client(create_app(snapshots.current, snapshots.close))
    snapshots.close()


def store(database: Database) -> None:
    """Ten decisions made now, and what monitoring found."""
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


def test_the_figures_are_those_of_the_database(client: Client, database: Database) -> None:
    store(database)
    snapshot: dict[str, Any] = client.get("/overview.json").json()
    assert snapshot["decisions"]["block"]["count"] == 2
    assert snapshot["decisions"]["approve"]["count"] == 8
    assert sum(snapshot["minutes"]["decisions"]) == 10
    assert snapshot["lag"] == 0
    assert [cell["severity"] for cell in snapshot["drift"]["features"]["amount"]] == ["none", "high"]
    assert snapshot["performance"]["recall"][0]["value"] == 0.97
    assert [(one["check"], one["status"]) for one in snapshot["quality"]] == [("freshness", "failed")]
    assert snapshot["dags"] == []
    assert snapshot["verdict"]["level"] == "attention"
    assert "freshness" in snapshot["verdict"]["sentence"]


def test_an_empty_installation_is_not_called_safe(client: Client) -> None:
    snapshot = client.get("/overview.json").json()
    assert snapshot["verdict"] == {
        "level": "unknown",
        "sentence": "It cannot be said: no transaction was decided yet.",
    }


def test_a_page_of_another_name_cannot_read_it(client: Client) -> None:
    refused = client.get("/overview.json", Host="attacker.example:8050")
    assert refused.status_code == 400
    assert client.get("/overview.json", Host="localhost:8050").status_code == 200


def test_everything_the_page_loads_is_served_here(client: Client) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for path in ("uplot/uPlot.iife.min.js", "uplot/uPlot.min.css", "overview.css", "overview.js", "icon.svg"):
        assert f"/static/{path}" in page.text
        assert client.get(f"/static/{path}").status_code == 200
