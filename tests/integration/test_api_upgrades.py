"""Clients as they come, which offer HTTP/2, directly and through the gateway; and another ASGI server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.gateway import gateway
from tests.integration.raw_http import UPGRADE, exchange, predict
from tests.support.api_server import ApiServer, cloned, creditcard, scoring_server
from tests.support.programs import program

JAVA_CLIENT: Final = Path(__file__).parent / "java" / "Predict.java"


@pytest.fixture(scope="module")
def module_database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_upgrades") as clone:
        yield clone


@pytest.fixture(scope="module")
def server(module_database: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with scoring_server(module_database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module", params=["directly", "through the gateway"])
def url(
    request: pytest.FixtureRequest, server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "directly":
        yield server.url
        return
    with gateway(server.port, tmp_path_factory.mktemp("gateway")) as entrance:
        yield entrance.url


def test_java_s_own_client_is_answered(server: ApiServer, url: str) -> None:
    """It offers h2c with every request of a connection until told otherwise; lengths and chunks alternate."""
    done = subprocess.run(
        [program("java"), str(JAVA_CLIENT), f"{url}/predict", server.token()],
        input="\n".join(json.dumps(creditcard()) for _ in range(6)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["200"] * 6


@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
@pytest.mark.parametrize("chunked", [False, True])
def test_curl_is_answered(server: ApiServer, url: str, option: str, chunked: bool) -> None:
    more = ["--header", "Transfer-Encoding: chunked"] if chunked else []
    done = curl(server, f"{url}/predict", option, *more)
    assert (done.returncode, done.stdout) == (0, "200")


def test_http_2_without_an_offer_is_refused_by_the_api_and_spoken_by_the_gateway(
    server: ApiServer, url: str
) -> None:
    done = curl(server, f"{url}/predict", "--http2-prior-knowledge")
    if url == server.url:
        assert done.returncode != 0
        assert done.stdout == "000"
    else:
        assert (done.returncode, done.stdout) == (0, "200")


def curl(server: ApiServer, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Post one transaction; its output is the status."""
    headers = [
        "--header",
        f"Authorization: Bearer {server.token()}",
        "--header",
        "Content-Type: application/json",
    ]
    return subprocess.run(
        [
            *(program("curl"), "--silent", "--noproxy", "*", "--max-time", "20", "--output", "/dev/null"),
            *(
                "--write-out",
                "%{http_code}",
                *options,
                *headers,
                "--data-binary",
                json.dumps(creditcard()),
                url,
            ),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class UvicornServer(ApiServer):
    """The same application, started by uvicorn as its documentation says."""

    def program(self) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [
            *(sys.executable, "-m", "uvicorn", "--factory", "fraud_api.server:application", *address),
            *("--http", "h11", "--no-access-log"),
        ]


def test_uvicorn_starts_the_application_too(server: ApiServer, tmp_path: Path) -> None:
    other = UvicornServer(server.database_url, server.cache, tmp_path / "api.log")
    try:
        other.start()
        with other.client() as client:
            assert client.post("/predict", json=creditcard()).status_code == 200
        last = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        request = predict(other.token(), json.dumps(creditcard()).encode(), UPGRADE)
        assert exchange(other, *request, last).statuses == [200, 200]
        assert other.metric("fraud_api_scored_total") == 2
    finally:
        other.stop()
