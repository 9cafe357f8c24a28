"""Airflow's web UI as a person uses it: log in, start a run, read a task's log, pause and unpause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, Page, expect

from config import constants
from tests.browser.conftest import Visit
from tests.support.airflow_pages import PATIENCE_MS, expect_home, log_in, open_dag, start_run
from tests.support.airflow_platform import PATIENCE_S, AirflowPlatform
from tests.support.waiting import eventually

PRODUCER: Final = "00_transaction_producer"
RENEWAL: Final = "00_token_renewal"
TRAINING: Final = constants.DAG_TRAINING
RUN_PATIENCE_MS: Final = PATIENCE_S * 1000
# The log-in page of Airflow's FAB provider 3.10 does not load a chunk that one of its scripts needs; the
# form works nevertheless.
LOG_IN_PAGE_PROBLEM: Final = "Cannot read properties of undefined (reading 'tz')"


@pytest.fixture(scope="package")
def installation(platform: AirflowPlatform) -> AirflowPlatform:
    """Airflow with parsed DAGs and stopped schedules; only triggered runs start."""
    known = platform.airflow.known
    assert eventually(lambda: all(known(dag_id) for dag_id in constants.DAGS_REAL_TIME), PATIENCE_S)
    platform.stop_schedules()
    return platform


@pytest.fixture(scope="package")
def cookies(chromium: Browser, installation: AirflowPlatform) -> list[Any]:
    """The cookies of a logged-in user."""
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    log_in(page, installation.metadata.server.url, installation.metadata.server.password)
    expect_home(page)
    all_cookies = page.context.cookies()
    page.close()
    return list(all_cookies)


@pytest.fixture
def page(visit: Visit, installation: AirflowPlatform, cookies: list[Any]) -> Iterator[Page]:
    """A logged-in user; asserts that no page fails and no other host gets a request."""
    visit.page.set_default_timeout(PATIENCE_MS)
    visit.page.context.add_cookies(cookies)
    yield visit.page
    assert visit.hosts == {f"127.0.0.1:{installation.metadata.server.port}"}
    assert visit.problems == []


def log_of(page: Page, installation: AirflowPlatform, task_id: str) -> str:
    """Open a task's log from a run's page, and unfold all of it."""
    page.get_by_role("row").get_by_role("link", name=task_id).click()
    expect(page.get_by_text("Log message source details")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_text("Pre Execute").click()
    page.get_by_text("Post Execute").click()
    expect(page.get_by_text("Pushing xcom")).to_be_visible(timeout=PATIENCE_MS)
    text: str = page.locator("body").inner_text()
    assert "***" not in text
    assert not [name for name, secret in installation.secrets.items() if secret in text]
    return text


def stored_token(installation: AirflowPlatform) -> str:
    [(value,)] = installation.metadata.rows(
        "SELECT val FROM variable WHERE key = %s", constants.VARIABLE_API_TOKEN
    )
    return Fernet(installation.metadata.server.fernet_key).decrypt(value.encode()).decode()


def test_who_mistypes_the_password_is_told_so_and_kept_out(
    visit: Visit, installation: AirflowPlatform
) -> None:
    log_in(visit.page, installation.metadata.server.url, installation.metadata.server.password + "x")
    expect(visit.page.get_by_text("Invalid login. Please try again.")).to_be_visible(timeout=PATIENCE_MS)
    # Its scripts need each other: left while they are loading, the page would report a problem.
    visit.page.wait_for_load_state()
    visit.page.goto(f"{installation.metadata.server.url}/dags")
    expect(visit.page.locator("input[name=password]")).to_be_visible(timeout=PATIENCE_MS)
    assert visit.hosts == {f"127.0.0.1:{installation.metadata.server.port}"}
    assert set(visit.problems) <= {LOG_IN_PAGE_PROBLEM}


def test_a_person_starts_a_run_and_reads_what_its_job_said(
    page: Page, installation: AirflowPlatform, visit: Visit
) -> None:
    open_dag(page, installation.metadata.server.url, PRODUCER)
    page.get_by_role("button", name="Dag Docs").click()
    expect(page.get_by_role("heading", name="When it fails")).to_be_visible(timeout=PATIENCE_MS)
    page.keyboard.press("Escape")
    start_run(page, RUN_PATIENCE_MS)
    text = log_of(page, installation, "generate_transactions")
    assert re.search(r"INFO - job_done .*\btransactions=50 ", text)
    line = page.get_by_text("job_done").bounding_box()
    assert line
    assert line["x"] + line["width"] <= 1280, "the end of the line is not visible"
    assert visit.screenshot("airflow-log").stat().st_size > 20_000
    assert len(installation.sent()) >= 50


def test_a_form_refuses_a_wrong_value_and_starts_no_run(
    page: Page, installation: AirflowPlatform, visit: Visit
) -> None:
    runs = "SELECT count(*) FROM dag_run WHERE dag_id = %s"
    before = installation.metadata.rows(runs, TRAINING)
    open_dag(page, installation.metadata.server.url, TRAINING)
    page.get_by_role("button", name="Trigger Dag").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Train in any case")).to_be_visible(timeout=PATIENCE_MS)
    expect(dialog.get_by_text("Leave out transactions before this time.")).to_be_visible()
    dialog.locator("[name=element_file]").fill("/etc/passwd")
    visit.screenshot("airflow-form")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    sentence = "file is not a file that jobs can read: write s3://fraud-runs/PATH.csv or .parquet."
    expect(page.get_by_text(sentence)).to_be_visible(timeout=PATIENCE_MS)
    assert visit.screenshot("airflow-form-refused").stat().st_size > 20_000
    assert installation.metadata.rows(runs, TRAINING) == before


def test_the_token_is_renewed_and_never_shown(page: Page, installation: AirflowPlatform) -> None:
    open_dag(page, installation.metadata.server.url, RENEWAL)
    start_run(page, RUN_PATIENCE_MS)
    token = stored_token(installation)
    assert token not in log_of(page, installation, "renew_api_token")
    page.goto(f"{installation.metadata.server.url}/variables")
    expect(page.get_by_text(constants.VARIABLE_API_TOKEN)).to_be_visible(timeout=PATIENCE_MS)
    assert token not in page.content()


def test_a_dag_is_paused_and_unpaused_in_the_list(page: Page, installation: AirflowPlatform) -> None:
    page.goto(f"{installation.metadata.server.url}/dags")
    for dag_id in constants.DAGS_REAL_TIME:
        expect(page.get_by_role("link", name=dag_id)).to_be_visible(timeout=PATIENCE_MS)
    installation.airflow.pause(RENEWAL, paused=True)
    open_dag(page, installation.metadata.server.url, RENEWAL)
    switch = page.get_by_test_id("toggle-pause")
    for state in ("checked", "unchecked"):
        switch.click()
        expect(switch).to_have_attribute("data-state", state, timeout=PATIENCE_MS)
        page.reload()
        expect(switch).to_have_attribute("data-state", state, timeout=PATIENCE_MS)
