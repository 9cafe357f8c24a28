"""A Chromium for tests of web pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, ViewportSize, sync_playwright

CHROMIUM: Final = Path("/usr/bin/chromium")
VIEWPORT: Final = ViewportSize(width=1280, height=900)
SCREENSHOTS: Final = Path(__file__).resolve().parents[2] / ".local" / "screenshots"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"There is no {CHROMIUM}: install the package chromium.")
    # Chromium's sandbox does not work as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()
