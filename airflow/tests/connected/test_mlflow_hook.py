"""What the hook makes of answers that the real MLflow gives rarely; the usual ones are tested against it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from hooks.mlflow_hook import FraudMlflowHook


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim")


def _item(version: int) -> dict[str, Any]:
    return {"name": "fraud-any", "version": str(version), "creation_timestamp": 1795263193123}


def test_all_pages_are_read_and_the_newest_comes_first(http_server: Any) -> None:
    pages = {
        "": {"model_versions": [_item(9), _item(10)], "next_page_token": "a b"},
        "a b": {"next_page_token": "c"},
        "c": {"model_versions": [_item(2)]},
    }
    http_server.reply = lambda request: (200, pages[request.query.get("page_token", "")])
    versions = FraudMlflowHook(http_server.url).model_versions("fraud-any")
    assert [version.version for version in versions] == ["10", "9", "2"]
    assert versions[0].created_at == "2026-11-21T12:13:13.123Z"
    assert http_server.requests[0].query["filter"] == "name='fraud-any'"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((500, {"message": "Out of\norder."}), r"refuses runs/get: 500, Out of order\.$"),
        ((200, b"<html>"), r"gave no JSON for runs/get; correct MLFLOW_TRACKING_URI, or start MLflow\.$"),
        ((404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}), r"MLflow at http://[\d.:]+ has no run abc\.$"),
        ((404, b"<html>"), r"refuses runs/get: 404, no reason given\.$"),
    ],
)
def test_an_error_is_a_sentence(answer: tuple[int, Any], sentence: str, http_server: Any) -> None:
    http_server.reply = lambda _request: answer
    with pytest.raises(AirflowException, match=sentence):
        FraudMlflowHook(http_server.url).run("abc")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"does not accept the password of the user release: correct MLFLOW_TRACKING_PASSWORD of"),
        (403, r"refuses registered-models/alias: 403, "),
    ],
)
def test_a_refused_log_in_or_request_is_not_retried(status: int, sentence: str, http_server: Any) -> None:
    http_server.reply = lambda _request: (status, b"The user may not")
    with pytest.raises(AirflowFailException, match=sentence):
        FraudMlflowHook(http_server.url).set_alias("fraud-any", "champion", "1")
    assert http_server.requests[0].headers["authorization"] == "Basic cmVsZWFzZTpnZWhlaW0="


def test_a_worker_without_the_password_is_told(http_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(
        AirflowFailException, match=r"^MLFLOW_TRACKING_PASSWORD is not set for Airflow's workers"
    ):
        FraudMlflowHook(http_server.url).run("abc")
    assert not http_server.requests


def test_a_name_cannot_change_the_question(http_server: Any) -> None:
    with pytest.raises(AirflowException, match="quotation mark"):
        FraudMlflowHook(http_server.url).model_versions("x' OR name LIKE '%")
    assert not http_server.requests
