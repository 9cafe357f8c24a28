"""The pages in Chromium show what they should and send no request to third parties."""

from __future__ import annotations

from playwright.sync_api import expect

from fraud_adapters.models.mlflow_http import MlflowHttp
from tests.browser.conftest import Visit


def test_swagger_shows_the_routes_with_files_of_our_own(visit: Visit, api_port: int) -> None:
    visit.page.goto(f"http://127.0.0.1:{api_port}/docs")
    expect(visit.page.locator(".opblock-summary-path", has_text="/predict").first).to_be_visible()
    expect(visit.page.locator(".opblock-summary-path", has_text="/auth/token")).to_be_visible()
    visit.page.locator(".opblock-summary-path", has_text="/auth/token").click()
    expect(visit.page.locator(".opblock.is-open")).to_contain_text("grant_type")
    picture = visit.screenshot("swagger")
    assert visit.hosts == {f"127.0.0.1:{api_port}"}
    assert visit.problems == []
    assert picture.stat().st_size > 20_000


def test_mlflow_opens_on_model_training_and_reports_nothing(visit_of_person: Visit, mlflow_uri: str) -> None:
    visit, name = visit_of_person, "an experiment of the browser test"
    with MlflowHttp(mlflow_uri) as trainer:
        trainer.post("experiments/create", {"name": name}, seconds=30)
    requested_urls: list[str] = []
    visit.page.on("request", lambda request: requested_urls.append(request.url))
    visit.page.goto(f"{mlflow_uri}/#/experiments")
    expect(visit.page.get_by_text(name).first).to_be_visible(timeout=30_000)
    visit.page.get_by_text(name).first.click()
    visit.page.wait_for_url("**/runs?workflowType=machine_learning*")
    assert visit.screenshot("mlflow").stat().st_size > 20_000
    assert visit.hosts == {mlflow_uri.removeprefix("http://")}
    assert not [url for url in requested_urls if "telemetry" in url.lower()]
