"""Airflow's pages in the running stack, in a Chromium on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, Page

from config.constants import AIRFLOW_USER, BUCKET_RUNS, DAG_BATCH
from tests.stack.stack import Stack, wait_for
from tests.support.airflow_pages import PATIENCE_MS, expect_home, log_in, open_dag, start_run
from tests.support.chromium import CHROMIUM, SCREENSHOTS, VIEWPORT, chromium

__all__ = ["chromium"]

# .ci/run installs it where it can, as for the tests in tests/browser.
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"not run: there is no {CHROMIUM}"),
    pytest.mark.timeout(600),  # a run in containers on a busy machine
]
RUN_PATIENCE_MS: Final = 240_000.0


@pytest.fixture
def url(stack: Stack) -> str:
    """Airflow's address as its own pages link to it; at another name one is not logged in."""
    return f"http://localhost:{stack.harness.ports['airflow']}"


@pytest.fixture
def page(chromium: Browser, stack: Stack, url: str) -> Iterator[Page]:
    """A person who has logged in; the times of the forms are those of their zone."""
    # A container that starts or ends changes the machine's networks, and Chromium gives up what it loads.
    stack.pause(True)
    wait_for(lambda: not stack.jobs(), 120)
    page = chromium.new_page(viewport=VIEWPORT, timezone_id="UTC")
    page.set_default_timeout(PATIENCE_MS)
    log_in(page, url, stack.harness.dotenv["AIRFLOW_PASSWORD"])
    expect_home(page)
    yield page
    page.close()
    stack.pause(False)


def test_an_interval_is_scored_from_the_form(stack: Stack, page: Page, url: str) -> None:
    """The last hour's transactions into a file, as the form is filled and sent by a person."""
    wait_for(lambda: stack.stored()["transactions"] > 0, 240)
    start = datetime.now(UTC) - timedelta(hours=1)
    output = f"s3://{BUCKET_RUNS}/exports/{start:%Y%m%d%H%M%S}.parquet"
    open_dag(page, url, DAG_BATCH)
    start_run(page, RUN_PATIENCE_MS, {"data_from": start, "output": output})
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "stack-batch-run.png")
    run = unquote(page.url.partition("/runs/")[2].partition("/")[0].partition("?")[0])
    assert output in stack.airflow().log(DAG_BATCH, run, "log_batch_completion")
    result = result_of(stack, run)
    assert result["scored"] > 0
    assert (result["output"], result["requested_by"]) == (output, AIRFLOW_USER)


def result_of(stack: Stack, run: str) -> dict[str, Any]:
    """What the job handed over to the next task."""
    task = f"/api/v2/dags/{DAG_BATCH}/dagRuns/{quote(run, safe='')}/taskInstances/run_batch_prediction"
    value = stack.airflow()._call("GET", f"{task}/xcomEntries/return_value")["value"]
    result: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return result
