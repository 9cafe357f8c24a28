"""The servers of the pages, and visits of Chromium that record every request of a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, HttpCredentials, Page, Request

from tests.support.airflow_platform import platform
from tests.support.api_server import ApiServer
from tests.support.chromium import SCREENSHOTS, VIEWPORT, chromium
from tests.support.mlflow_users import mlflow_login
from tests.support.server_fixtures import (
    database,
    kafka_bootstrap,
    mlflow_uri,
    object_store_server,
    passwords,
    postgres_admin_url,
    postgres_server,
    roles,
    stack,
    tansu,
    template,
)
from tests.support.servers import Database

__all__ = [
    "chromium",
    "database",
    "kafka_bootstrap",
    "mlflow_uri",
    "object_store_server",
    "passwords",
    "platform",
    "postgres_admin_url",
    "postgres_server",
    "roles",
    "stack",
    "tansu",
    "template",
]

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Visit:
    """A page and all requests it made."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def screenshot(self, name: str) -> Path:
        """Save a screenshot in .local/screenshots."""
        path = SCREENSHOTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)
        return path


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    yield from _visit(chromium.new_page(viewport=VIEWPORT))


@pytest.fixture
def visit_of_person(chromium: Browser, mlflow_uri: str) -> Iterator[Visit]:
    """A page that logs in to MLflow as the user `person` when it is asked to."""
    login = mlflow_login("person")
    credentials = HttpCredentials(
        username=login["MLFLOW_TRACKING_USERNAME"],
        password=login["MLFLOW_TRACKING_PASSWORD"],
        origin=mlflow_uri,
    )
    yield from _visit(chromium.new_page(viewport=VIEWPORT, http_credentials=credentials))


def _visit(page: Page) -> Iterator[Visit]:
    page_visit = Visit(page)

    def record_request(request: Request) -> None:
        if request.url.startswith(("http", "ws")):
            page_visit.hosts.add(urlsplit(request.url).netloc)

    page.on("request", record_request)
    page.on("pageerror", lambda error: page_visit.problems.append(str(error)))
    yield page_visit
    page.close()


@pytest.fixture
def api_port(database: Database, mlflow_uri: str, kafka_bootstrap: str, tmp_path: Path) -> Iterator[int]:
    """Port of a scoring API without a model."""
    servers = {"MLFLOW_TRACKING_URI": mlflow_uri, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}
    server = ApiServer(database.url("api"), tmp_path / "models", tmp_path / "api.log", extra=servers)
    try:
        server.start(ready=False)
        yield server.port
    finally:
        server.stop()
