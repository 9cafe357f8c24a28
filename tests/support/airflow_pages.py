"""Airflow's web UI as a person uses it: log in, open a DAG, start a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from playwright.sync_api import Error, Page, expect

from config import constants

PATIENCE_MS: Final = 60_000.0  # for a page on a busy machine


def log_in(page: Page, url: str, password: str) -> None:
    _open(page, url)
    page.locator("input[name=username]").fill(constants.AIRFLOW_USER)
    page.locator("input[name=password]").fill(password)
    page.locator("[type=submit]").click()


def expect_home(page: Page) -> None:
    """The first page behind the log-in."""
    expect(page.get_by_text("Pool Slots")).to_be_visible(timeout=PATIENCE_MS)


def open_dag(page: Page, url: str, dag_id: str) -> None:
    _open(page, f"{url}/dags/{dag_id}")
    expect(page.get_by_role("heading", name=dag_id)).to_be_visible(timeout=PATIENCE_MS)


def start_run(page: Page, patience_ms: float, values: Mapping[str, str | datetime] | None = None) -> None:
    """Fill the form on the DAG's page, start a run, and stay on the run's page until it has succeeded.

    Args:
        values: by parameter, times first: a field of a time has no name, so the form's first empty one is
            taken, which is a time in the page's zone.
    """
    page.get_by_role("button", name="Trigger Dag").click()
    dialog = page.get_by_role("dialog")
    for name, value in (values or {}).items():
        if isinstance(value, datetime):
            dialog.get_by_text("Select date and time").first.click(timeout=PATIENCE_MS)
            page.get_by_placeholder("YYYY/MM/DD").fill(f"{value:%Y/%m/%d}")
            page.get_by_placeholder("HH:mm").fill(f"{value:%H:%M}")
            continue
        dialog.locator(f"[name=element_{name}]").fill(value, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Trigger", exact=True).click()
    page.wait_for_url("**/runs/manual__*", timeout=PATIENCE_MS)
    header = page.locator("h2", has_text="manual__").locator("xpath=..")
    expect(header.get_by_test_id("state-badge")).to_have_text("Success", timeout=patience_ms)


def _open(page: Page, address: str) -> None:
    """Load a page, again where a container's network came or went meanwhile."""
    for _ in range(4):
        try:
            page.goto(address)
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in str(error):
                raise
        else:
            return
    page.goto(address)
