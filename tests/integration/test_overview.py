"""The overview's figures against real Postgres and Kafka, and what its page allows a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from config.settings import KafkaSettings
from fraud_embedded.overview.app import create_app
from tests.support.overview_page import snapshots, store_findings
from tests.support.release_history import store_releases
from tests.support.stored_rows import Database, run


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
    shown = snapshots(database, topics.kafka_bootstrap_servers, topics.topic)
    yield Client(create_app(shown.current, shown.close))
    shown.close()


def test_the_figures_are_those_of_the_database(client: Client, database: Database) -> None:
    store_findings(database)
    snapshot: dict[str, Any] = client.get("/overview.json").json()
    assert snapshot["decisions"]["block"]["count"] == 2
    assert snapshot["decisions"]["approve"]["count"] == 8
    assert sum(snapshot["minutes"]["decisions"]) == 10
    assert snapshot["lag"] == 0
    assert [cell["severity"] for cell in snapshot["drift"]["features"]["amount"]] == ["none", "high"]
    assert snapshot["performance"]["recall"][0]["value"] == 0.97
    assert [(one["check"], one["status"]) for one in snapshot["quality"]] == [("freshness", "failed")]
    running, last = snapshot["releases"]["running"], snapshot["releases"]["last"]
    assert (running["version"], running["champion"], running["state"]) == ("7", "5", "canary")
    assert (running["percent"], running["verdict"], running["ended"]) == (10, "inconclusive", None)
    assert running["sentence"].startswith("Inconclusive: over 18 calls")
    assert (last["version"], last["state"], last["percent"]) == ("6", "rolled_back", 0)
    assert last["reason"] == "Roll back: the error rate is 20.00%."
    assert snapshot["dags"] == []
    assert snapshot["verdict"]["level"] == "attention"
    assert "freshness" in snapshot["verdict"]["sentence"]


def test_a_verdict_is_that_of_the_stage_that_runs(client: Client, database: Database) -> None:
    store_releases(database)
    run(
        database.url("owner"),
        "UPDATE deployments SET state = 'widened', traffic_percent = 50, stage_started_at = clock_timestamp()"
        " WHERE ended_at IS NULL",
    )
    running = client.get("/overview.json").json()["releases"]["running"]
    assert (running["state"], running["percent"], running["verdict"]) == ("widened", 50, None)


def test_an_empty_installation_is_not_called_safe(client: Client) -> None:
    snapshot = client.get("/overview.json").json()
    assert snapshot["releases"] == {"running": None, "last": None}
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
