"""What the hook makes of answers that the real MLflow gives rarely; the usual ones are tested against it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from hooks.mlflow_hook import FraudMlflowHook


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


def test_a_name_cannot_change_the_question(http_server: Any) -> None:
    with pytest.raises(AirflowException, match="quotation mark"):
        FraudMlflowHook(http_server.url).model_versions("x' OR name LIKE '%")
    assert not http_server.requests
