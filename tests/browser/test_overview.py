"""The overview in Chromium: what it shows, live, wide and narrow, from files of our own alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from playwright.sync_api import expect

from fraud_embedded.overview.app import create_app
from tests.browser.conftest import Visit
from tests.support.overview_page import snapshots, store_findings
from tests.support.servers import Database


@pytest.fixture
def address(database: Database, kafka_bootstrap: str) -> Iterator[str]:
    shown = snapshots(database, kafka_bootstrap, "overview-transactions")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(shown.current, shown.close), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_the_overview_follows_the_database(visit: Visit, database: Database, address: str) -> None:
    page = visit.page
    page.goto(f"http://{address}/")
    expect(page.locator("#sentence")).to_have_text("It cannot be said: no transaction was decided yet.")
    expect(page.locator("#releases-none")).to_be_visible()
    store_findings(database)
    expect(page.locator("#sentence")).to_have_text("Data quality failed: freshness.", timeout=15_000)
    expect(page.locator("#verdict")).to_have_class("attention")
    expect(page.locator("#block")).to_have_text("2")
    expect(page.locator("#drift td.high")).to_have_count(1)
    expect(page.locator("#parts li", has_text="mlflow does not answer")).to_be_visible()
    expect(page.locator("#releases dd.canary")).to_have_text(
        "version 7, canary, 10 % of the cards; the others have version 5"
    )
    expect(page.locator("#releases dd.inconclusive")).to_have_text("inconclusive")
    expect(page.locator("#releases dd.rolled_back")).to_have_text("version 6, rolled back")
    expect(page.locator("#releases")).to_contain_text("Roll back: the error rate is 20.00%.")
    expect(page.locator("#releases-none")).to_be_hidden()
    expect(page.locator("#performance canvas")).to_be_visible()
    assert visit.screenshot("overview").stat().st_size > 20_000
    page.set_viewport_size({"width": 800, "height": 900})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    visit.screenshot("overview-narrow")
    assert visit.hosts == {address}
    assert visit.problems == []


def test_a_server_that_stops_is_noticed(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(f"http://{address}/")
    expect(page.locator("#age")).to_have_text("updated now")
    page.route("**/overview.json", lambda route: route.abort())
    expect(page.locator("#age")).to_have_class("stale", timeout=40_000)
