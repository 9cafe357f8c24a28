"""The analysts' web app in Chromium: every page, the queue by keys, and what axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from fraud_core.people import PersonRole
from tests.support.audit_app import (
    PASSWORD,
    PEOPLE,
    RunningApp,
    add_decisions,
    add_people,
    prepare,
    report,
    running_app,
)
from tests.support.release_history import store_releases
from tests.support.servers import Database
from tests.support.stored_rows import run

AXE: Final = Path(__file__).parent / "axe" / "axe.min.js"
SCREENSHOTS: Final = Path(__file__).resolve().parents[2] / ".local" / "screenshots"
PAGES: Final = (
    "/",
    "/dashboard?days=7",
    "/frauds",
    "/non_frauds",
    "/false_cases",
    "/manual_labeling",
    "/cases",
    "/cases?view=closed",
    "/cases/1",
    "/deployments",
    "/alerts?state=all",
    "/account",
    "/nope",
)


@pytest.fixture
def app(database: Database) -> Iterator[RunningApp]:
    """With people, decisions, truths, a closed case, releases and alerts."""
    add_people(database, {**PEOPLE, "ada": PersonRole.ADMIN})
    names = add_decisions(database, 120)
    report(database, {name: int(number % 9 == 0) for number, name in enumerate(names[::2])})
    store_releases(database)
    run(
        database.url("owner"),
        "INSERT INTO alerts (source, severity, title, dedupe_key)"
        " VALUES ('drift', 'critical', 'PSI of amount is 0.61', 'a'), ('quality', 'medium', 'Few rows', 'b')",
    )
    with running_app(database) as running:
        prepare(running.app, database)
        yield running


def log_in(page: Page, app: RunningApp, username: str = "ana") -> None:
    page.goto(f"{app.url}/login")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    # Keys are heard once the page's scripts have run.
    page.wait_for_load_state("load")


def watched(page: Page) -> list[str]:
    """What the browser complains about: errors, and what the security policy blocks."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console", lambda one: problems.append(one.text) if "Content Security Policy" in one.text else None
    )
    return problems


def violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical."""
    # Through the debugger's protocol, which the page's security policy does not concern.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in result["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(
    chromium: Browser, app: RunningApp, theme: Literal["light", "dark"]
) -> None:
    context = chromium.new_context(viewport=ViewportSize(width=1440, height=900), color_scheme=theme)
    page = context.new_page()
    problems = watched(page)
    page.goto(f"{app.url}/login")
    found = {"/login": violations(page)}
    log_in(page, app)
    for path in PAGES:
        page.set_viewport_size(ViewportSize(width=1440, height=900))
        page.goto(f"{app.url}{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        found[path] = violations(page)
        name = path.strip("/").replace("/", "-").partition("?")[0] or "overview"
        page.screenshot(path=SCREENSHOTS / f"audit-{name}-1440-{theme}.png", full_page=True)
        page.set_viewport_size(ViewportSize(width=800, height=900))
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{path} is {overflow} px wider than the window"
        page.screenshot(path=SCREENSHOTS / f"audit-{name}-800-{theme}.png", full_page=True)
    context.close()
    assert [f"{path} {one}" for path, several in found.items() for one in several] == []
    assert problems == []


def test_a_queue_is_worked_off_with_one_key_each(
    chromium: Browser, app: RunningApp, database: Database
) -> None:
    page = chromium.new_page()
    problems = watched(page)
    log_in(page, app)
    page.keyboard.press("g")
    page.keyboard.press("q")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("Case")
    page.wait_for_load_state("load")
    seen: list[str] = []

    def press(key: str) -> None:
        before = heading.inner_text()
        seen.append(before)
        page.keyboard.press(key)
        expect(heading).not_to_have_text(before)
        expect(heading).to_be_focused()

    press("f")
    press("l")
    expect(page.get_by_text("was labelled as legitimate")).to_be_visible()
    press("u")
    expect(heading).to_have_text(seen[1])
    press("s")
    # A note goes with the decision; keys in it are text.
    page.keyboard.press("n")
    page.keyboard.type("self")
    page.keyboard.press("Escape")
    press("e")
    url = database.url("owner")
    kinds = run(url, "SELECT kind FROM case_events WHERE actor = 'ana' AND kind <> 'taken' ORDER BY event_id")
    assert [kind for (kind,) in kinds] == ["labelled", "labelled", "undone", "skipped", "escalated"]
    assert run(url, "SELECT details ->> 'note' FROM case_events WHERE kind = 'escalated'") == [("self",)]
    labels = run(url, "SELECT label FROM labels WHERE reported_by = 'ana' ORDER BY reported_at")
    assert labels == [(1,), (0,)]
    assert problems == []
    page.close()


def test_a_key_that_follows_at_once_is_for_the_next_case_on_the_same_page(
    chromium: Browser, app: RunningApp
) -> None:
    page = chromium.new_page()
    log_in(page, app)
    page.goto(f"{app.url}/manual_labeling")
    page.wait_for_load_state("load")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_be_focused()
    page.evaluate(
        "let answers = 0;"
        "document.addEventListener('htmx:beforeSwap', () => { document.body.dataset.answers = ++answers });"
        "document.addEventListener('htmx:afterSwap', () => setTimeout(() => document.dispatchEvent("
        "new KeyboardEvent('keydown', { key: 's', bubbles: true }))), { once: true })"
    )
    page.keyboard.press("f")
    expect(page.locator("body")).to_have_attribute("data-answers", "2")
    expect(heading).to_be_focused()
    page.close()


def test_a_list_is_searched_by_keyboard_and_its_filters_live_in_the_address(
    chromium: Browser, app: RunningApp
) -> None:
    page = chromium.new_page()
    log_in(page, app)
    page.keyboard.press("g")
    page.keyboard.press("f")
    expect(page.get_by_role("heading", level=1)).to_have_text("Frauds")
    page.wait_for_load_state("load")
    first = page.locator("td.id").first.inner_text()
    page.keyboard.press("/")
    page.keyboard.type(first)
    page.keyboard.press("Enter")
    expect(page.locator("td.id")).to_have_text([first])
    assert f"q={first}" in page.url
    page.reload()
    expect(page.locator("td.id")).to_have_text([first])
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert first in Path(download.value.path()).read_text()
    page.close()


def test_the_theme_is_switched_and_kept(chromium: Browser, app: RunningApp) -> None:
    context = chromium.new_context(color_scheme="light")
    page = context.new_page()
    log_in(page, app)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.goto(f"{app.url}/dashboard")
    assert page.evaluate(ground) == dark
    expect(page.locator("[data-chart=quality] canvas")).to_be_visible()
    context.close()


def test_a_new_person_s_zone_is_the_browser_s(chromium: Browser, app: RunningApp) -> None:
    context = chromium.new_context(timezone_id="Europe/Berlin")
    page = context.new_page()
    log_in(page, app, "ben")
    expect(page.get_by_text("analyst · Europe/Berlin")).to_be_visible()
    context.close()
